-- record.lua: reads and writes one claim record. Put in front of every verb.
-- KEYS[1]  the record's key; a script has this one key, so a Redis Cluster serves it
-- ARGV[1]  the caller's token
-- ARGV[2]  the lease, ms
-- ARGV[3]  the earliest expiry, ms since the epoch (slot + 3 h)
-- Answers {word, detail, f, c, now, reason}: the words of domain/claim.py's ClaimAnswer; detail is
-- the rest of a wait in ms, or the final state; now is Redis TIME in ms; reason is why the
-- last try failed. A refusal of Redis (OOM, READONLY …) is answered as it is: up to version 6
-- an error that is raised inside a script would be wrapped into another one's text.

local key, token, lease, expiry = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local MAX_LEASE, FOREIGN_TTL, EXPIRY_AFTER_LEASE = 900000, 7200000, 600000
local MOST_WHOLE = 9007199254740992
local FINAL = {sent = true, skipped = true, dead = true, missed = true, complete = true}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function refused(said)
  if type(said) ~= 'table' or said.err == nil then return false end
  said.err = string.gsub(string.gsub(said.err, '^@user_script: ?%d+: ', ''), '^-', '')  -- up to version 6
  return true
end

local function whole(n)
  if n == nil then return 0 end
  if type(n) == 'number' and n == math.floor(n) and math.abs(n) <= MOST_WHOLE then return n end
end

-- The record, or nil where another maker wrote the value (any type: pcall); second, Redis' refusal; third, what it is.
local function read()
  local raw = redis.pcall('GET', key)
  if raw == false then return {s = 'absent'} end
  if refused(raw) and not string.find(raw.err, 'WRONGTYPE', 1, true) then return nil, raw end
  if type(raw) ~= 'string' then return nil, nil, 'another_type' end
  local ok, r = pcall(cjson.decode, raw)
  if not ok or type(r) ~= 'table' or type(r.s) ~= 'string' or type(r.t) ~= 'string' then return nil, nil, 'another_maker' end
  r.u, r.f, r.c = whole(r.u), whole(r.f), whole(r.c)
  if not (r.u and r.f and r.c) then return nil, nil, 'another_maker' end
  if type(r.r) ~= 'string' or string.find(r.r, '[^a-z0-9_]') then r.r = '' end
  if not FINAL[r.s] and r.s ~= 'claimed' and r.s ~= 'idle' then return nil, nil, 'another_maker' end
  return r
end

local function live(r, leases)
  return now < r.u and r.u <= now + leases * MAX_LEASE
end

local function because(reason)
  if not reason or reason == '' then return '}' end
  return string.format(',"r":"%s"}', reason)
end

local function open_record(s, t, u, f, c, reason)
  return string.format('{"s":"%s","t":"%s","u":%.0f,"f":%d,"c":%d', s, t, u, f, c) .. because(reason)
end

local function final_record(s, t, f, c, reason)
  if f + c == 0 then return string.format('{"s":"%s","t":"%s"}', s, t) end
  return string.format('{"s":"%s","t":"%s","f":%d,"c":%d', s, t, f, c) .. because(reason)
end

local function expire_at()
  return string.format('%.0f', math.max(expiry, now + lease + EXPIRY_AFTER_LEASE))
end

local function answer(word, detail, r)
  return {word, detail or 0, r and r.f or 0, r and r.c or 0, now, r and r.r or ''}
end

-- Store the value and give this answer; or Redis' refusal, where it takes no writes.
local function write(value, reply)
  local said = redis.pcall('SET', key, value, 'PXAT', expire_at())
  if refused(said) then return said end
  return reply
end

-- Delete the key and answer ok; or Redis' refusal, where it takes no writes.
local function remove(r)
  local said = redis.pcall('DEL', key)
  if refused(said) then return said end
  return answer('ok', 0, r)
end
