"""Feeds in Redis: `feed:{user}` has what was fanned out, and the marks of whom to merge in of `told:{author}`.

Both are timelines (shared/kernel/timeline.py). A mark is "~" and an author's id, behind every entry. Of a marked author
only what `told` has counts, whatever else of theirs is in the feed: so a mark may come early, and stay long.
"""

from typing import Final

from shared.feed.model import FEEDS
from shared.kernel import cache, guard, ids
from shared.kernel.timeline import Slice

_REMEMBERED: Final = 50_000
# KEYS: the feed. ARGV: where to begin, how many. Gives "plain" or "merged" and the entries, with "!" where there are no
# more; or "untold" and the authors whose `told` has to be built first; nothing if the feed isn't there.
#
# A few of each list are taken, then more of those that may have more above the last place of the page. A list that is
# not whole tells nothing of what lies below its end: what others have down there is left to Postgres.
_PAGE: Final = cache.Script("""
local start, count = ARGV[1], tonumber(ARGV[2])
local marks = redis.call('ZRANGE', KEYS[1], '[~', '+', 'BYLEX')
if marks[1] ~= '~' then return false end
if not marks[2] then
  return {'plain', redis.call('ZRANGE', KEYS[1], start, '-', 'BYLEX', 'REV', 'LIMIT', 0, count)}
end
local merged, open, missing = {}, {[KEYS[1]] = start}, {}
for i = 2, #marks do
  local author = string.sub(marks[i], 2)
  merged[author] = true
  open['told:' .. author] = start
  if not redis.call('ZSCORE', 'told:' .. author, '~') then missing[#missing + 1] = author end
end
if missing[1] then return {'untold', missing} end

local found, floor, ended = {}, '', true
local function take(list, from, n)
  local got = redis.call('ZRANGE', list, from, '-', 'BYLEX', 'REV', 'LIMIT', 0, n)
  local whole = got[#got] == '!'
  for i = 1, #got - (whole and 1 or 0) do
    if list ~= KEYS[1] or not merged[string.sub(got[i], -13)] then found[#found + 1] = got[i] end
  end
  if whole then return nil end
  if #got == n then return '(' .. got[n] end
  local last = got[#got] or string.sub(from, 2)
  if last > floor then floor = last end
  ended = false
end
local n, more = math.ceil(count / #marks) + 2, true
while more do
  for list, from in pairs(open) do
    if #found < count or string.sub(from, 2) > found[count] then open[list] = take(list, from, n) end
  end
  table.sort(found, function(a, b) return a > b end)
  for i = #found, count + 1, -1 do found[i] = nil end
  more = false
  for _, from in pairs(open) do
    more = more or #found < count or string.sub(from, 2) > found[count]
  end
  n = count
end
while found[1] and found[#found] < floor do found[#found] = nil end
if ended and #found < count then found[#found + 1] = '!' end
return {'merged', found}
""")


# Users whose feeds had no marks when they were last read here: to go through a script takes Redis three times as long.
_unmarked: set[int] = set()


async def read(user_id: int, before: int | None, count: int) -> tuple[Slice, list[int]]:
    """Up to `count` entries of a feed older than the id `before`; or none, and whose `told` has to be built first.

    By the request's first trip; it is two where marks have come since this process knew of none.
    """
    _, plain = FEEDS.ask(user_id, before, count)
    if user_id in _unmarked:
        marks, entries = await guard.first(("ZRANGE", FEEDS.key(user_id), "[~", "+", "BYLEX"), plain)
        if len(marks) < 2:
            return FEEDS.take([marks[0] if marks == [b"~"] else None, entries], count), []
        _unmarked.discard(user_id)
    (reply,) = await guard.first(_PAGE.command([FEEDS.key(user_id)], [plain[2], count]))
    if reply is None:
        return FEEDS.take([None, []], count), []
    state, members = reply
    if state == b"untold":
        return FEEDS.take([None, []], count), [ids.decode(author.decode()) for author in members]
    if state == b"plain":
        if len(_unmarked) > _REMEMBERED:
            _unmarked.clear()
        _unmarked.add(user_id)
    return FEEDS.take([state, members], count), []
