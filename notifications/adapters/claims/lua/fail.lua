-- fail.lua: give the own claim back, to be tried again; a repeat counts once.
-- ARGV[4]  how long to wait, ms; 30 min at most are stored
-- ARGV[5]  1 if this failure counts against the item, else 0
-- ARGV[6]  max_failures: the item is dead at this count; 0 means never
-- ARGV[7]  the latest due time that may be stored, ms since the epoch
-- ARGV[8]  the reason, a short code of a-z, 0-9 and _: kept until the next win
-- Answers ok | done (dead) | lost.

local wait, counts, max_failures, latest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local r, refusal = read()
if refusal then return refusal end
if not r or r.t ~= token then return answer('lost') end
if r.s == 'idle' then return answer('ok', 0, r) end
if r.s == 'dead' then return answer('done', 'dead', r) end
if r.s ~= 'claimed' then return answer('lost') end

r.f, r.r = r.f + counts, ARGV[8]
if counts == 1 and max_failures > 0 and r.f >= max_failures then
  return write(final_record('dead', token, r.f, r.c, r.r), answer('done', 'dead', r))
end
local due = math.min(now + math.min(wait, 2 * MAX_LEASE), latest)
return write(open_record('idle', token, due, r.f, r.c, r.r), answer('ok', 0, r))
