import { connect } from '../src/index.ts';
import { blog } from './blog.ts';

const workspace = connect(blog, { url: process.argv[2] as string });
await workspace.ready();
for (const post of workspace.tables.posts.all()) console.log(post.title);
await workspace.tables.posts.put({ id: '2', title: 'from Bun', content: '', views: 0, published: false }).saved();
workspace.destroy();
