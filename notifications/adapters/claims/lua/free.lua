-- free.lua: delete the own claim of a day that was skipped: the app may take the key to make it on demand.
-- Answers ok | lost. A key that is gone is ok: a repeat, or its time is over.

local r, refusal = read()
if refusal then return refusal end
if not r then return answer('lost') end
if r.s == 'absent' then return answer('ok') end
if r.s ~= 'claimed' or r.t ~= token then return answer('lost') end
return remove(r)
