-- renew.lua: extend the own live claim by one lease. Shards only.
-- Answers ok | lost.

local r, refusal = read()
if refusal then return refusal end
if not r or r.s ~= 'claimed' or r.t ~= token or not live(r, 1) then return answer('lost') end
return write(open_record('claimed', token, now + lease, r.f, r.c), answer('ok', 0, r))
