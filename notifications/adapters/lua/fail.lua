-- fail.lua: give the own claim back, to be tried again; a repeat counts once.
-- ARGV[4]  how long to wait, ms; 30 min at most are stored
-- ARGV[5]  1 if this failure counts against the item, else 0
-- ARGV[6]  max_failures: the item is dead at this count; 0 means never
-- ARGV[7]  the latest due time that may be stored, ms since the epoch
-- Answers ok | done (dead) | lost.

local wait, counts, max_failures, latest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local r = read()
if not r or r.t ~= token then return answer('lost') end
if r.s == 'idle' then return answer('ok', 0, r) end
if r.s == 'dead' then return answer('done', 'dead', r) end
if r.s ~= 'claimed' then return answer('lost') end

r.f = r.f + counts
if counts == 1 and max_failures > 0 and r.f >= max_failures then
  write(final_record('dead', token, r.f, r.c))
  return answer('done', 'dead', r)
end
write(open_record('idle', token, math.min(now + math.min(wait, 2 * MAX_LEASE), latest), r.f, r.c))
return answer('ok', 0, r)
