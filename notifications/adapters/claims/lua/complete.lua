-- complete.lua: end the own claim in its final state; a repeat is ok and changes nothing.
-- ARGV[4]  the final state: sent, skipped, dead, missed or complete
-- Answers ok | lost.

local r, refusal = read()
if refusal then return refusal end
if not r or r.t ~= token then return answer('lost') end
if FINAL[r.s] then return answer('ok', 0, r) end
if r.s ~= 'claimed' then return answer('lost') end
return write(final_record(ARGV[4], token, 0, 0), answer('ok', 0, r))
