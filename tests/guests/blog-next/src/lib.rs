//! The blog as its author has it next: posts have an author, titles are short, and posts/publish
//! is gone. It is put in the place of the blog while that is being served.

use epicenter_workspace::*;

const POSTS: Table<Post> = Table::new("posts");

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Post {
    id: String,
    title: String,
    content: String,
    views: u64,
    published: bool,
    author: String,
}

#[derive(Deserialize, JsonSchema)]
struct PostV1 {
    id: String,
    title: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
struct PostV2 {
    id: String,
    title: String,
    content: String,
    views: u64,
    published: bool,
}

fn titles(ctx: &Context, (): ()) -> Result<Vec<String>> {
    let posts = POSTS.select().sort(field!(Post.title).ascending()).list(ctx)?;
    Ok(posts.into_iter().map(|post| post.title).collect())
}

fn from_v1(PostV1 { id, title }: PostV1) -> Post {
    Post { id, title, author: "unknown".into(), ..Post::default() }
}

fn from_v2(post: PostV2) -> Post {
    let PostV2 { id, title, content, views, published } = post;
    Post { id, title, content, views, published, author: "unknown".into() }
}

fn workspace() -> Workspace {
    let posts = POSTS.define().previous(from_v1).previous(from_v2);
    Workspace::new("blog")
        .table(posts.rule("title", "must have at most 20 letters", |post| post.title.len() <= 20))
        .query("posts/titles", "Alphabetically.", titles)
}

export!(workspace);
