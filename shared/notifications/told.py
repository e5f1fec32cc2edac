"""What a user was last told of each of their notifications, in Redis: `heard:of:{notification}`, for a day.

That is under which version, who was hidden of it then (`*`: all) and who was shown, and as of when that was read. What
is told next is news if somebody acted since, or if less is shown: more is hidden, or one undid what they did once they
were hidden, which is no act that is told. Who shows again is not told, but is more when hidden again. The rank of what
is told is when its news was read first: whoever tells the same again tells it under the same.
"""

from typing import Final

from shared.kernel import cache, ids
from shared.live.publish import KEPT_SECONDS
from shared.notifications.store import ToldRow

_GONE: Final = "*"

# KEYS: what was told. ARGV: as of when it was read now, the version, who is hidden, whether it is only looked at,
# seconds kept, how many are shown, the latest of them. Gives the rank of what was read; nil where what was told was
# read later: who read that tells it. To who only looks it gives one for what is news, of which no note is taken before
# it is due; else nil.
#
# The note is taken before it is told: who dies between does it again, under the rank that is noted. Who looks notes who
# is hidden, and not the version: whose news that is has yet to tell it.
_RANK: Final = cache.Script("""
local as_of, version, hidden, looks = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local count, latest = ARGV[6], ARGV[7]
local told = redis.call('HMGET', KEYS[1], 'as_of', 'version', 'hidden', 'rank', 'count', 'latest')
if told[1] and tonumber(as_of) < tonumber(told[1]) then return false end
if looks and not told[1] and hidden == '' then return false end
local function is_less_shown()
  if told[3] == '*' then return false end
  if hidden == '*' then return true end
  if told[1] then
    local fewer = tonumber(told[5]) - tonumber(count)
    if fewer > 0 or fewer == 0 and told[6] ~= latest then return true end
  end
  local before = {}
  for id in string.gmatch(told[3] or '', '%S+') do before[id] = true end
  for id in string.gmatch(hidden, '%S+') do
    if not before[id] then return true end
  end
  return false
end
local acted = not told[1] or tonumber(version) > tonumber(told[2])
local news = is_less_shown() or acted and hidden ~= '*'
if looks then
  if news then return as_of end
  version = told[2]
end
local rank = news and as_of or told[4]
redis.call('HSET', KEYS[1], 'as_of', as_of, 'version', version, 'hidden', hidden, 'rank', rank,
  'count', count, 'latest', latest)
redis.call('EXPIRE', KEYS[1], ARGV[5])
if looks then return false end
return rank
""")


def rank(group: ToldRow, *, showing: bool, looks: bool = False) -> cache.Command:
    """The command that gives the rank of what is to be told of a group, None where somebody tells what is newer.

    Who `looks` is given one only if there is something to tell, and then asks again when it is due.
    """
    hidden = " ".join(map(ids.encode, group.hidden)) if showing else _GONE
    latest = " ".join(map(ids.encode, group.actors))
    read = (group.as_of, group.version, hidden, int(looks), KEPT_SECONDS, group.actor_count, latest)
    return _RANK.command([f"heard:of:{ids.encode(group.id)}"], read)
