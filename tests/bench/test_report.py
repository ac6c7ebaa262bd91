"""What the benchmarks report, keep as Markdown, and compare with: no broker is needed."""

from collections import defaultdict
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from bench import throughput
from bench.peer import Peer, is_installed
from bench.plan import Plan
from bench.report import Report, Result
from bench.results import HAND_WRITTEN, write_results
from bench.usage import PARTITIONS, Sums, Usage, add_sums, differences
from outlay.judging import decode_usage
from outlay.scope import scope_keys
from outlay.topics import usage_partition
from outlay.window import day_ordinal, window_names

NOW_MS = 4_000_000_000_000
"""Later than any record, for the judge: none is dated in the future."""


def said_nothing(text: str) -> None:
    pass


def new_report(rounds: int = 3) -> Report:
    return Report("sample", rounds, said_nothing)


# -- report


def test_a_goal_is_met_or_missed() -> None:
    report = new_report()
    report.goal("fast", 2.0, at_least=2.0)
    report.goal("slow", 1.9, at_least=2.0)
    report.goal("small", 400.0, at_most=400.0)
    report.goal("large", 400.1, at_most=400.0)
    report.goal("not measured", None, at_least=1.0)
    result = report.result()
    assert [(g.name, g.goal, g.met) for g in result.goals] == [
        ("fast", ">= 2", True),
        ("slow", ">= 2", False),
        ("small", "<= 400", True),
        ("large", "<= 400", False),
    ]
    assert result.correct  # a missed goal is only said


def test_a_ratio_is_of_medians_and_none_where_one_was_not_measured() -> None:
    report = new_report()
    for value in (1.0, 8.0, 9.0):
        report.add("ours", value)
    for value in (2.0, 2.0, 100.0):
        report.add("theirs", value)
    assert report.ratio("ours / theirs", "ours", "theirs") == 4.0
    assert report.ratio("ours / absent", "ours", "absent") is None
    assert report.result().ratios == {"ours / theirs": 4.0}


def test_variants_take_turns_and_warm_ups_are_thrown_away() -> None:
    report, turns = new_report(rounds=2), []

    def variant(name: str) -> float:
        turns.append(name)
        report.add(f"{name}_cpu", len(turns))
        return len(turns)

    report.add("before", 1.0)
    report.measure({"a": lambda: variant("a"), "b": lambda: variant("b")}, warmups=1)
    assert turns == ["a", "b"] * 3
    assert report.samples == {
        "before": [1.0], "a": [3, 5], "b": [4, 6], "a_cpu": [3, 5], "b_cpu": [4, 6],
    }  # fmt: skip


def test_what_is_not_as_expected_is_wrong() -> None:
    report = new_report()
    report.expect("the same", [1], [1])
    assert report.result().correct
    report.expect("a sum", 1, 2)
    result = report.result()
    assert not result.correct
    assert result.wrong == ["a sum: 1, expected 2"]


# -- results


def result_of(bench: str, value: float) -> Result:
    report = Report(bench, 3, said_nothing)
    report.add("records_per_s", value)
    report.goal("records/s", value, at_least=10.0)
    report.skip("quix", "quixstreams is not installed")
    report.note("A sentence.")
    return report.result()


def test_results_keep_other_sections_and_what_is_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write_results(path, [result_of("latency", 5.0), result_of("throughput", 20.0)])
    path.write_text(path.read_text() + "\n## What we make of it\n\nBy hand.\n")
    write_results(path, [result_of("throughput", 30.0)])
    text = path.read_text()
    generated, by_hand = text.split(HAND_WRITTEN)
    assert by_hand == "\n\n## What we make of it\n\nBy hand.\n"
    assert generated.count("## latency") == generated.count("## throughput") == 1
    assert "| records_per_s | 5 |  |" in generated
    assert "| records/s | 5 | >= 10: **missed** |" in generated
    assert "| records/s | 30 | >= 10: met |" in generated
    assert "| records_per_s | 20 |" not in generated
    assert "Skipped: quix: quixstreams is not installed." in generated
    assert "A sentence." in generated


def test_results_written_again_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    results = [result_of("latency", 5.0), result_of("throughput", 20.0)]
    write_results(path, results)
    once = path.read_text()
    write_results(path, results)
    assert path.read_text() == once


# -- usage


def summed(values: list[bytes]) -> Sums:
    """What these records come to, by the code that the workers use."""
    sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
    for value in values:
        usages, rejections = decode_usage(value, NOW_MS)
        assert not rejections
        for record, cost_nano in usages:
            scopes = scope_keys(
                record.organization_id, record.team_id, record.user_id, record.agent_id
            )
            amounts = (cost_nano, 1, record.input_tokens, record.output_tokens)
            for window in window_names(day_ordinal(record.occurred_at)):
                for scope in scopes:
                    held = sums[scope, window]
                    for i, amount in enumerate(amounts):
                        held[i] += amount
    return dict(sums)


@pytest.mark.parametrize("everyone", [False, True])
def test_usage_knows_what_its_json_comes_to(everyone: bool) -> None:
    usage = Usage(30, everyone=everyone)
    samples = usage.take(200)
    assert differences(summed([sample.json for sample in samples]), usage.sums) == {}
    for sample in samples:
        agent_id = f"agent-{sample.agent:07d}"
        assert sample.partition == usage_partition("acme", agent_id, PARTITIONS)
    if everyone:
        assert {sample.agent for sample in samples} == set(range(30))


def test_usage_knows_how_many_rows_its_records_make() -> None:
    usage = Usage(30)
    rows, scopes = set(), set()
    for sample in usage.take(200):
        for scope, window in summed([sample.json]):
            rows.add(("partials", sample.partition, scope, window))
            if "/agent:" not in scope:
                rows.add(("totals", sample.partition, scope, window))
            scopes.add(scope)
    assert (usage.rows, usage.scopes) == (len(rows), len(scopes))


def test_usage_is_the_same_for_the_same_seed() -> None:
    def amounts(seed: int) -> list[tuple[int, int, int, int]]:
        return [sample[:4] for sample in islice(Usage(30, seed=seed), 50)]

    assert amounts(1) == amounts(1) != amounts(2)


def test_differences_are_named_and_sums_add_up() -> None:
    key, other = ("organization:acme", "2026-01"), ("organization:acme", "2026-01-01")
    sums: Sums = {key: [1, 1, 1, 1]}
    add_sums(sums, {key: [2, 0, 0, 0], other: [5, 1, 0, 0]})
    assert sums == {key: [3, 1, 1, 1], other: [5, 1, 0, 0]}
    assert differences(sums, {key: [3, 1, 1, 1]}) == {other: ([5, 1, 0, 0], None)}
    assert differences({}, {key: [3, 1, 1, 1]}) == {key: (None, [3, 1, 1, 1])}


# -- peers


def test_peers_that_are_not_installed_are_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "is_installed", lambda package: False)
    report = new_report()
    assert throughput.peers(Plan(tmp_path), report) == {}
    result = report.result()
    assert result.skipped == {
        "naive_faust": "faust is not installed",
        "quix": "quixstreams is not installed",
    }
    assert result.correct


def test_what_is_installed_is_found() -> None:
    assert is_installed("msgspec")
    assert not is_installed("no_such_package_anywhere")


def test_a_peer_says_what_it_found() -> None:
    peer = Peer(2_000, 0.5, 0.25, [("organization:acme", "2026-01", 7, 2, 3, 4)])
    again = msgspec.json.decode(msgspec.json.encode(peer), type=Peer)
    assert again.sums == {("organization:acme", "2026-01"): [7, 2, 3, 4]}
    assert (again.records_per_s, again.cpu_s_per_million) == (4_000.0, 125.0)
