"""The benchmark of the history, at its smallest: what it measures is right, whatever it takes."""

from bench import history


def test_the_history_benchmark_is_correct(run_smoke, kafka, tmp_path, monkeypatch):
    """Every record is in the history once, and a month's spend by team is what was put into it."""
    monkeypatch.delenv(history.DSN_VARIABLE, raising=False)
    result = run_smoke(history, kafka)
    assert result.correct, result.wrong
    assert {
        "history_rows_per_s",
        "history_single_rows_per_s",
        "spend_by_team_cold_s",
        "spend_by_team_warm_s",
    } <= set(result.results)
    assert set(result.skipped) == {"server_history_rows_per_s"}
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind
