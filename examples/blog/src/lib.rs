//! A blog: posts that are drafts until they are published, and a theme.

use epicenter_workspace::*;

const POSTS: Table<Post> = Table::new("posts");
const THEME: Key<String> = Key::new("theme");

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Post {
    id: String,
    title: String,
    content: String,
    views: u64,
    published: bool,
}

/// What a post was before it had content; old rows are migrated as they are read.
#[derive(Deserialize, JsonSchema)]
struct PostV1 {
    id: String,
    title: String,
}

#[derive(Deserialize, JsonSchema)]
struct Popular {
    min: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Import {
    json: String,
}

fn publish(tx: &Transaction, Id { id }: Id) -> Result<Post> {
    log::info!("publishing {id}");
    POSTS.modify(tx, &id, |post| post.published = true)
}

fn import(tx: &Transaction, Import { json }: Import) -> Result<usize> {
    let posts: Vec<Post> = serde_json::from_str(&json)?;
    for post in &posts {
        POSTS.put(tx, post)?;
    }
    Ok(posts.len())
}

fn popular(ctx: &Context, Popular { min }: Popular) -> Result<Vec<Post>> {
    POSTS
        .select()
        .filter(field!(Post.published).eq(true))
        .filter(field!(Post.views).gte(min))
        .sort(field!(Post.views).descending())
        .list(ctx)
}

fn workspace() -> Workspace {
    Workspace::new("blog")
        .table(
            POSTS
                .define()
                .previous(|PostV1 { id, title }| Post { id, title, ..Post::default() })
                .rule("title", "must not be empty", |post| !post.title.is_empty()),
        )
        .kv(THEME)
        .mutation("posts/publish", "Publishes a post.", publish)
        .mutation("posts/import", "Adds posts from a JSON text, all or none.", import)
        .query("posts/popular", "The most viewed first.", popular)
}

export!(workspace);
