"""The story that the system exists for."""

from tests.client import Person, wait_until


def test_a_post_with_mention_and_hashtag_reaches_a_follower(alice: Person, bob: Person) -> None:
    profile = bob.follow(alice.username)
    assert profile["viewer"] == {"following": True, "followed_by": False, "blocking": False, "muting": False}
    assert profile["counts"] == {"posts": 0, "followers": 1, "following": 0}

    post = alice.post_photo(f"At the sea with @{bob.username}. #Sommer #море")
    assert post["mentions"] == [bob.username]
    assert post["hashtags"] == ["sommer", "море"]
    assert post["author"]["username"] == alice.username
    assert post["counts"] == {"reactions": 0, "comments": 0, "reposts": 0, "saves": 0}

    assert bob.get(f"/v1/posts/{post['id']}") == post
    assert bob.get(f"/v1/users/{alice.username}/posts") == {"items": [post], "next_cursor": None}
    assert alice.get("/v1/feed")["items"] == [post]
    assert wait_until(lambda: bob.get("/v1/feed")["items"]) == [post]
    assert alice.get("/v1/me")["counts"] == {"posts": 1, "followers": 1, "following": 0}

    (mention,) = wait_until(lambda: bob.get("/v1/notifications")["items"])
    assert mention["type"] == "mention"
    assert mention["subject"] == {"type": "post", "id": post["id"]}
    assert mention["actors"] == [post["author"]]
    assert mention["unread"] is True
    assert bob.get("/v1/me")["unread"] == {"notifications": 1, "chats": 0}
    assert bob.put("/v1/notifications/read")["unread"]["notifications"] == 0
    assert bob.get("/v1/notifications")["items"] == [mention | {"unread": False}]

    (follow,) = wait_until(lambda: alice.get("/v1/notifications")["items"])
    assert (follow["type"], follow["actor_count"]) == ("follow", 1)
    assert follow["actors"][0]["username"] == bob.username


def test_deleting_a_post_takes_it_back_everywhere(alice: Person, bob: Person) -> None:
    bob.follow(alice.username)
    post = alice.post_photo(f"Oops @{bob.username}")
    wait_until(lambda: bob.get("/v1/notifications")["items"])

    alice.delete(f"/v1/posts/{post['id']}")

    assert bob.http.get(f"/v1/posts/{post['id']}").status_code == 404
    assert bob.get("/v1/feed")["items"] == []
    assert bob.get(f"/v1/users/{alice.username}/posts")["items"] == []
    assert alice.get("/v1/me")["counts"]["posts"] == 0
    assert alice.http.delete(f"/v1/posts/{post['id']}").status_code == 404
    wait_until(lambda: not bob.get("/v1/notifications")["items"])
    wait_until(lambda: bob.http.get(post["media"][0]["url"]).status_code == 404)


def test_following_brings_older_posts_in_and_unfollowing_takes_them_out(alice: Person, bob: Person) -> None:
    posts = [alice.post_photo(f"Number {n}", seed=n) for n in range(3)]
    assert bob.get("/v1/feed")["items"] == []
    bob.follow(alice.username)
    wait_until(lambda: bob.get("/v1/feed")["items"] == posts[::-1])
    bob.delete(f"/v1/users/{alice.username}/follow")
    assert bob.get("/v1/feed")["items"] == []
    assert bob.get(f"/v1/users/{alice.username}")["counts"]["followers"] == 0
