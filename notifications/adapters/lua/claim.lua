-- claim.lua: take the record for one lease, or say why not.
-- ARGV[4]  the lane of this pass: 0, 1 or 2
-- ARGV[5]  max_crashes; 0 means none
-- Answers won | held (ms) | wait (ms) | later | done (state).

local lane, max_crashes = tonumber(ARGV[4]), tonumber(ARGV[5])

if redis.call('SET', key, open_record('claimed', token, now + lease, 0, 0), 'NX', 'PXAT', expire_at()) then
  return answer('won')
end

local r = read()
if not r then
  local left = redis.call('PTTL', key)
  if left < 0 then
    redis.call('PEXPIRE', key, FOREIGN_TTL)
    left = FOREIGN_TTL
  end
  return answer('held', left)
end

local function win(crashes)
  r.c = crashes
  write(open_record('claimed', token, now + lease, r.f, r.c))
  return answer('won', 0, r)
end

if FINAL[r.s] then return answer('done', r.s, r) end

if r.s == 'idle' then
  if live(r, 2) then return answer('wait', r.u - now, r) end
  if math.min(r.c, 2) > lane then return answer('later', 0, r) end
  return win(r.c)
end

if r.t == token then return win(r.c) end
if live(r, 1) then return answer('held', r.u - now, r) end

local crashes = r.c + 1
if max_crashes > 0 and crashes >= max_crashes then
  r.c = crashes
  write(final_record('dead', '', r.f, r.c))
  return answer('done', 'dead', r)
end
if math.min(crashes, 2) > lane then
  r.c = crashes
  write(open_record('idle', '', now, r.f, r.c))
  return answer('later', 0, r)
end
return win(crashes)
