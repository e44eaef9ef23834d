// A blog: posts that are drafts until they are published, and a theme.
package main

import (
	"encoding/json"
	"log"

	"epicenter.dev/workspace"
)

// PostV1 is what a post was before it had content; old rows are migrated as they are read.
type PostV1 struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

type Post struct {
	ID        string `json:"id"`
	Title     string `json:"title"`
	Content   string `json:"content" default:""`
	Views     uint32 `json:"views" default:"0"`
	Published bool   `json:"published" default:"false"`
}

var posts = workspace.NewTable("posts",
	workspace.Previous(func(old PostV1) Post { return Post{ID: old.ID, Title: old.Title} }),
	workspace.Rule("title", "must not be empty", func(post Post) bool { return post.Title != "" }),
)

var theme = workspace.NewKey[string]("theme")

type Publish struct {
	ID string `json:"id"`
}

func publish(in Publish) (Post, error) {
	log.Printf("publishing %s", in.ID)
	return posts.Update(in.ID, workspace.Fields{"published": true})
}

type Import struct {
	JSON string `json:"json"`
}

func importPosts(in Import) (int, error) {
	var imported []Post
	if err := json.Unmarshal([]byte(in.JSON), &imported); err != nil {
		return 0, err
	}
	for _, post := range imported {
		if _, err := posts.Put(post); err != nil {
			return 0, err
		}
	}
	return len(imported), nil
}

type Popular struct {
	Min uint32 `json:"min"`
}

func popular(in Popular) ([]Post, error) {
	return posts.List(
		workspace.Eq("published", true), workspace.Gte("views", in.Min), workspace.Sort("-views"),
	)
}

func init() {
	workspace.Serve(workspace.Workspace{
		ID:      "blog-go",
		Title:   "Blog in Go",
		Version: "0.1.0",
		Tables:  []workspace.AnyTable{posts},
		Keys:    []workspace.AnyKey{theme},
		Actions: []workspace.Action{
			workspace.Mutation("posts/publish", "Publishes a post.", publish),
			workspace.Mutation("posts/import", "Adds posts from a JSON text, all or none.", importPosts),
			workspace.Query("posts/popular", "The most viewed first.", popular),
		},
	})
}

// Not called: a plugin is a library.
func main() {}
