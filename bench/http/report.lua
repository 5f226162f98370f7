-- SPDX-License-Identifier: BSL-1.0
-- For wrk: one line with what run.py wants to know. Times are in microseconds.
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'report requests=%d duration=%d connect=%d read=%d write=%d timeout=%d status=%d p50=%d p99=%d max=%d',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99), latency.max))
end
