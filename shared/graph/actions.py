"""What is done to the graph beside projecting to it."""

from typing import Final

from shared.kernel import graph

_COUNT: Final = "MATCH (u:User {id: $id}) RETURN count(u) AS there"
_FORGET: Final = "MATCH (u:User {id: $id}) DETACH DELETE u"


def forget(user_id: int) -> int:
    """Delete a user with all that leads to and from them; answers how many there were. Raises GraphUnavailable."""
    (found,) = graph.read(_COUNT, id=user_id)
    if found["there"]:
        graph.write(_FORGET, id=user_id)
    return int(found["there"])
