-- What wrk found, as numbers: its own text rounds the bytes.
function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("RESULT %d %d %d %d\n", summary.requests, summary.bytes, failed, summary.duration))
end
