-- One decision over token buckets and concurrency slots, all or nothing.
--
-- The arithmetic is that of golang.org/x/time/rate on whole microseconds, as in
-- limiter/bucket.go, operation by operation: Lua's numbers are the same doubles,
-- and 17 digits bring them over the wire unchanged. Keep the two files alike.
--
-- KEYS: the buckets, then the slots.
-- ARGV: op, now, number of buckets, life of a slot lease, lease id,
--       then for each bucket its figures, cost and a third word,
--       then for each slot the highest count that leaves room, and how many to take.
--   op    d: decide; c: decide, but take nothing; p: peek; r: give cost back; m: merge
--         what a node decided alone
--   now   microseconds; empty: this server's clock
--   figures  "n per burst rate": tokens, nanoseconds, tokens, tokens a second
--   third word  d: empty, or "want gen used back gen used back" of a node that leases
--               m: the tokens that the node has for this bucket
-- Reply: the outcome (0 allowed, 1 tokens lack, 2 no slot, 3 both), then for each bucket
--   tokens at its last change, microseconds since then, microseconds by which the
--   bucket is ahead of now, tokens lent now, and their generation.
--
-- A bucket is "tokens at idle generation lent lent_before figures". Tokens lent
-- to a node still count against the capacity, until the node reports them used or
-- brings them back, or until the generation after the one they were lent in has ended.

local GENERATION = 3000000 -- as in lease.go
local FOREVER = 3153600000000000 -- 100 years

local server = redis.call('TIME')
server = server[1] * 1000000 + server[2]
local op, now, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then now = server end

local function whole(x) return string.format('%.0f', x) end

-- What is refilled in us microseconds: Duration.Seconds() times the rate.
local function refilled(us, rate)
  if us <= 0 then return 0 end
  if us > FOREVER then us = FOREVER end
  local s = math.floor(us / 1000000)
  return (s + (us - s * 1000000) * 1000 / 1000000000) * rate
end

-- Whole microseconds, rounded up, until a bucket with so many tokens is full.
local function full_in(tokens, burst, rate)
  local lack = burst - tokens
  if lack <= 0 then return 0 end
  local ns = lack / rate * 1000000000
  if ns >= FOREVER * 1000 then return FOREVER end
  ns = math.floor(ns)
  -- In two parts: a double does not hold every nanosecond of a century.
  local high = math.floor(ns / 4294967296)
  local low = ns - high * 4294967296
  return high * 4294967 + math.ceil((high * 296 + low) / 1000)
end

local function lent(b) return b.cur + b.prev end

local function tokens_now(b)
  local tokens = b.tokens + refilled(b.t - b.at, b.rate)
  local most = b.burst - lent(b)
  if tokens > most then tokens = most end
  return tokens
end

-- The bucket has tokens at b.t, and that is its last change.
local function change(b, tokens)
  b.tokens, b.at, b.dirty, b.absent = tokens, b.t, true, false
  b.v = tokens
end

local function stay(b)
  local idle = b.at + full_in(b.tokens, b.burst, b.rate)
  if idle > b.idle then b.idle = idle end
end

local function figures(b, text)
  local burst, rate = string.match(text, '^%S+ %S+ (%S+) (%S+)$')
  b.figures, b.burst, b.rate = text, tonumber(burst), tonumber(rate)
end

local function make_full(b, text)
  figures(b, text)
  b.tokens, b.at, b.t, b.idle, b.cur, b.prev, b.absent = b.burst, now, now, now, 0, 0, true
  b.gen = math.floor(now / GENERATION)
end

local function load(i)
  local first = 6 + 3 * (i - 1)
  local b = { key = KEYS[i], cost = tonumber(ARGV[first + 1]), word = ARGV[first + 2], extra = 0 }
  local text = ARGV[first]
  local v = redis.call('GET', b.key)
  if not v then
    make_full(b, text)
  else
    local tokens, at, idle, gen, cur, prev, old = string.match(v, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.+)$')
    b.tokens, b.at, b.idle = tonumber(tokens), tonumber(at), tonumber(idle)
    b.t = now
    if b.at > now then b.t = b.at end -- time never runs back inside a bucket
    b.gen, gen = math.floor(b.t / GENERATION), tonumber(gen)
    if gen == b.gen then
      b.cur, b.prev = tonumber(cur), tonumber(prev)
    elseif gen == b.gen - 1 then
      b.cur, b.prev = 0, tonumber(cur)
    else
      b.cur, b.prev = 0, 0
    end
    figures(b, old)
    if old ~= text then
      if b.t >= b.idle and lent(b) == 0 then
        make_full(b, text)
        b.gone = true
      else
        local left = tokens_now(b)
        figures(b, text)
        if left > b.burst - lent(b) then left = b.burst - lent(b) end
        change(b, left)
        stay(b)
      end
    end
  end
  b.v = tokens_now(b)
  return b
end

-- A lack that is refilled within the nanosecond is none.
local function enough(b)
  local left = b.v - b.cost
  return b.cost <= b.burst and (left >= 0 or -left / b.rate * 1000000000 < 1)
end

local function save(b)
  if b.dirty then
    local last = b.idle
    if lent(b) > 0 and (b.gen + 2) * GENERATION > last then last = (b.gen + 2) * GENERATION end
    redis.call('SET', b.key, string.format('%.17g %.0f %.0f %.0f %.0f %.0f %s', b.tokens, b.at, b.idle, b.gen, b.cur, b.prev, b.figures),
      'PXAT', whole(math.ceil(last / 1000) + 1000))
  elseif b.gone then
    redis.call('DEL', b.key)
  end
end

-- What a node reports of tokens that it was lent: used of a generation are with
-- it no longer, and back of these were not spent. Of generations that have run
-- out nothing comes back: they were refilled already.
local function report(b, gen, used, back)
  if used <= 0 then return end
  local field = gen == b.gen and 'cur' or gen == b.gen - 1 and 'prev'
  if not field or b.absent then return end
  if used > b[field] then used = b[field] end
  if back > used then back = used end
  local tokens = b.v
  b[field] = b[field] - used
  change(b, tokens + back)
end

local function lend(b, want)
  -- An eighth of what is there, so that the last tokens are decided here, one by one.
  local extra = math.min(want, math.floor(b.tokens / 8))
  if extra < 2 then return end
  b.extra = extra
  b.cur = b.cur + extra
  b.tokens = b.tokens - extra
  stay(b)
end

local outcome = 0
local buckets = {}
for i = 1, count do
  local b = load(i)
  buckets[i] = b
  if op == 'd' or op == 'c' then
    if b.word ~= '' then
      local want, g1, u1, r1, g2, u2, r2 = string.match(b.word, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
      b.want = tonumber(want)
      report(b, tonumber(g1), tonumber(u1), tonumber(r1))
      report(b, tonumber(g2), tonumber(u2), tonumber(r2))
    end
    if b.cost > 0 and not enough(b) then outcome = 1 end
  elseif op == 'r' then
    if not b.absent and b.t < b.idle and b.v < b.burst - lent(b) then
      change(b, math.min(b.v + b.cost, b.burst - lent(b)))
    end
  elseif op == 'm' then
    local tokens = math.min(b.v - b.cost, tonumber(b.word), b.burst - lent(b))
    -- Nobody comes out of an outage owing more than a twentieth of the quota.
    tokens = math.max(tokens, math.min(b.v, -b.burst / 20))
    if tokens ~= b.v then
      change(b, tokens)
      stay(b)
    end
  end
end

local slots = #KEYS - count
if (op == 'd' or op == 'c') and slots > 0 then
  local at = 5 + 3 * count
  for i = 1, slots do
    local key = KEYS[count + i]
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(server))
    if outcome == 0 and redis.call('ZCARD', key) > tonumber(ARGV[at + 2 * i - 1]) then outcome = 2 end
  end
  if outcome == 1 then
    -- Told apart by the caller: tokens lack, and a slot does too.
    for i = 1, slots do
      if redis.call('ZCARD', KEYS[count + i]) > tonumber(ARGV[at + 2 * i - 1]) then outcome = 3 end
    end
  elseif outcome == 0 and op == 'd' then
    local life = tonumber(ARGV[4])
    for i = 1, slots do
      local key = KEYS[count + i]
      for n = 1, tonumber(ARGV[at + 2 * i]) do
        redis.call('ZADD', key, whole(server + life), ARGV[5] .. '#' .. n)
      end
      redis.call('PEXPIRE', key, whole(life / 1000 + 1000))
    end
  end
end

local reply = { outcome }
for i = 1, count do
  local b = buckets[i]
  if op == 'd' and outcome == 0 then
    if b.cost > 0 then
      change(b, b.v - b.cost)
      stay(b)
    end
    if b.want and b.want > 0 then
      if not b.dirty then change(b, b.v) end
      lend(b, b.want)
    end
  end
  save(b)
  reply[i + 1] = string.format('%.17g %.0f %.0f %.0f %.0f', b.tokens, b.t - b.at, b.t - now, b.extra, b.gen)
end
return table.concat(reply, ' ')
