"""A blog: posts that are drafts until they are published, and a theme."""

from dataclasses import dataclass
from json import loads
from typing import Annotated

from epicenter_workspace import Limit, Workspace

workspace = Workspace("blog-python", title="Blog in Python", version="0.1.0")


@dataclass
class PostV1:
    """What a post was before it had content; old rows are migrated as they are read."""

    id: str
    title: str


@dataclass
class Post:
    id: str
    title: str
    content: str = ""
    views: Annotated[int, Limit(minimum=0)] = 0
    published: bool = False


posts = workspace.table("posts", Post)
theme = workspace.kv("theme", str)


@posts.previous
def from_v1(old: PostV1) -> Post:
    return Post(old.id, old.title)


@posts.rule("title", "must not be empty")
def has_title(post: Post) -> bool:
    return post.title != ""


@workspace.mutation("posts/publish")
def publish(id: str) -> Post:
    """Publishes a post."""
    print(f"publishing {id}")
    return posts.update(id, published=True)


@workspace.mutation("posts/import")
def import_posts(json: str) -> int:
    """Adds posts from a JSON text, all or none."""
    imported = loads(json)
    for post in imported:
        posts.put(Post(**post))
    return len(imported)


@workspace.query("posts/popular")
def popular(min: Annotated[int, Limit(minimum=0)]) -> list[Post]:
    """The most viewed first."""
    return posts.list({"published": True, "views": {"gte": min}}, sort="-views")
