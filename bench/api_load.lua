-- Posts the lines of a file in turn for some seconds, and ends when the last answer has come.
--
-- wrk -t1 … -s api_load.lua URL -- LINES SECONDS MARK, with the Authorization header in the
-- environment. Whoever stops sending has no request cut off whose outcome nobody would know, so
-- what was answered is what was done. Prints one line of JSON.

local ffi = require("ffi")

ffi.cdef([[
struct bench_time { long s; long ns; };
int clock_gettime(int clock, struct bench_time *at);
int getpid(void);
int kill(int pid, int signal);
]])

local MONOTONIC, SIGINT = 1, 2
local NEVER_MS = 3600000

local at = ffi.new("struct bench_time")
local threads = {}

local function now_s()
  ffi.C.clock_gettime(MONOTONIC, at)
  return tonumber(at.s) + tonumber(at.ns) / 1e9
end

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local headers = {
    ["Content-Type"] = "application/json",
    ["Authorization"] = os.getenv("BENCH_AUTHORIZATION"),
  }
  requests = {}
  for line in io.lines(args[1]) do
    table.insert(requests, wrk.format("POST", nil, headers, line))
  end
  seconds, mark = tonumber(args[2]), args[3]
  sent = -1 -- wrk asks for one request that it only looks at
  answered, good, marked = 0, 0, 0
  began_s, ended_s = 0, 0
end

function request()
  sent = sent + 1
  if sent == 1 then
    began_s = now_s()
  end
  return requests[(sent - 1) % #requests + 1]
end

function delay()
  if sent > 0 and now_s() - began_s >= seconds then
    return NEVER_MS
  end
  return 0
end

function response(status, headers, body)
  answered = answered + 1
  if status >= 200 and status <= 299 then
    good = good + 1
    if string.find(body, mark, 1, true) then
      marked = marked + 1
    end
  end
  ended_s = now_s()
  if answered == sent and ended_s - began_s >= seconds then
    ffi.C.kill(ffi.C.getpid(), SIGINT) -- wrk would wait for the end of its time
  end
end

function done(summary, latency, rates)
  local thread, errors = threads[1], summary.errors
  print(string.format(
    '{"sent":%d,"answered":%d,"good":%d,"marked":%d,"socket_errors":%d,"timeouts":%d,'
      .. '"elapsed_s":%.6f,"p50_ms":%.3f,"p99_ms":%.3f}',
    thread:get("sent"), thread:get("answered"), thread:get("good"), thread:get("marked"),
    errors.connect + errors.read + errors.write, errors.timeout,
    thread:get("ended_s") - thread:get("began_s"),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000
  ))
end
