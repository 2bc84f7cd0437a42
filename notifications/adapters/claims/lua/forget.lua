-- forget.lua: delete the record, if it is still the one that was read.
-- ARGV[4]  its state; its token is ARGV[1]
-- Answers 1, also where it is gone (a repeat), or 0 where it has changed.

local r, refusal = read()
if refusal then return refusal end
if r and r.s == 'absent' then return 1 end
if not r or r.t ~= token or r.s ~= ARGV[4] then return 0 end
return redis.call('DEL', key)
