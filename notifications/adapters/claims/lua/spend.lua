-- spend.lua: take a call's worst cost from a day's budget, or settle it to what the call really cost.
-- KEYS[1]  the day's hash: `total`, and each amount that is taken and not settled yet, under its token
-- ARGV[1]  the caller's token; a repeat changes nothing
-- ARGV[2]  the amount, in millionths of a USD
-- ARGV[3]  the budget, in millionths of a USD; -1: settle
-- ARGV[4]  for how long the key is kept, s
-- Answers 1, or 0 where the amount would be over the budget. A refusal of Redis is answered as it is.

local MOST = 9007199254740992
local key, token, amount, most = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local taken = redis.pcall('HGET', key, token)
if type(taken) == 'table' and taken.err then return taken end
taken = tonumber(taken or nil)
local total = tonumber(redis.call('HGET', key, 'total') or 0)
if not total or not (total >= 0 and total <= MOST) then
  return redis.error_reply('WRONGTYPE the total is no amount of money')
end

if most == -1 then
  if not taken then return 1 end
  local said = redis.pcall('HSET', key, 'total', string.format('%.0f', total - taken + amount))
  if type(said) == 'table' and said.err then return said end
  redis.call('HDEL', key, token)
  return 1
end

if taken then return 1 end
if total + amount > most then return 0 end
local said = redis.pcall('HSET', key, 'total', string.format('%.0f', total + amount), token, amount)
if type(said) == 'table' and said.err then return said end
redis.call('EXPIRE', key, ARGV[4])
return 1
