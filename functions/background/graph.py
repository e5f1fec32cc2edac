"""The graph. A function of its own: while the graph is down, only this waits."""

from shared.graph import projection
from shared.kernel.events import on
from shared.profiles.model import FollowChanged, UserChanged


@on(UserChanged, FollowChanged, in_thread=True)
def project_to_graph(event: UserChanged | FollowChanged) -> None:
    """Bring a user or a follow in the graph up to date."""
    if isinstance(event, UserChanged):
        projection.project(users=[event.user_id])
    else:
        projection.project(pairs=[(event.follower_id, event.followee_id)])
