-- claim.lua: take the record for one lease, or say why not.
-- ARGV[4]  the lane of this pass: 0, 1 or 2
-- ARGV[5]  max_crashes; 0 means none
-- Answers won | held (ms) | foreign (ms) | wait (ms) | later | done (state). Of what is no record the reason says
-- another_maker (a text) or another_type.

local lane, max_crashes = tonumber(ARGV[4]), tonumber(ARGV[5])

local taken = redis.pcall('SET', key, open_record('claimed', token, now + lease, 0, 0), 'NX', 'PXAT', expire_at())
if refused(taken) then return taken end
if taken then return answer('won') end

local r, refusal, made_by = read()
if refusal then return refusal end
if not r then
  local left = redis.call('PTTL', key)
  if left < 0 then
    local said = redis.pcall('PEXPIRE', key, FOREIGN_TTL)
    if refused(said) then return said end
    left = FOREIGN_TTL
  end
  return answer('foreign', left, {f = 0, c = 0, r = made_by})
end

local function win(crashes)
  r.c = crashes
  return write(open_record('claimed', token, now + lease, r.f, r.c), answer('won', 0, r))
end

if FINAL[r.s] then return answer('done', r.s, r) end

if r.s == 'idle' then
  if live(r, 2) then return answer('wait', r.u - now, r) end
  if math.min(r.c, 2) > lane then return answer('later', 0, r) end
  return win(r.c)
end

if r.t == token then return win(r.c) end
if live(r, 1) then return answer('held', r.u - now, r) end

r.c = r.c + 1
if max_crashes > 0 and r.c >= max_crashes then
  return write(final_record('dead', '', r.f, r.c), answer('done', 'dead', r))
end
if math.min(r.c, 2) > lane then
  return write(open_record('idle', '', now, r.f, r.c), answer('later', 0, r))
end
return win(r.c)
