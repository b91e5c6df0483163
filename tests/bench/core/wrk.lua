-- One kind of request over a range of keys, in their order. Arguments: method, first part of the path, last part of
-- it, number of keys, first key, bytes of the body, number of tokens whose numbers stand in the last part of the path.
local before, after, keys, at, tokens

function init(args)
  local method, path, query = args[1], args[2], args[3]
  keys, at = tonumber(args[4]), tonumber(args[5])
  local body = string.rep("x", tonumber(args[6]))
  local headers = "\r\nHost: " .. wrk.headers["Host"] .. "\r\n"
  if #body > 0 then headers = headers .. "Content-Length: " .. #body .. "\r\n" end
  tokens = tonumber(args[7])
  before = method .. " " .. path
  after = query .. " HTTP/1.1" .. headers .. "\r\n" .. body
end

function request()
  local key = string.format("%07d", at % keys)
  at = at + 1
  if tokens > 0 then return before .. key .. string.format(after, at % tokens + 1) end
  return before .. key .. after
end

function done(summary, latency, requests)
  local bad = summary.errors
  io.write(string.format(
    '{"requests":%d,"errors":%d,"seconds":%f,"p50":%d,"p99":%d,"p999":%d}\n',
    summary.requests,
    bad.connect + bad.read + bad.write + bad.status + bad.timeout,
    summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
