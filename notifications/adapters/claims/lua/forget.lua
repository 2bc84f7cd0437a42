-- forget.lua: delete the record, if it is still the one that was read: an operator's wish.
-- ARGV[1]  the token that was read, which may be empty
-- ARGV[4]  the state that was read
-- Answers ok | lost. A key that is gone is ok.

local r, refusal = read()
if refusal then return refusal end
if not r then return answer('lost') end
if r.s == 'absent' then return answer('ok') end
if r.s ~= ARGV[4] or r.t ~= token then return answer('lost') end
return remove(r)
