// Hocuspocus as it comes: documents in memory, no extensions, its default batching.
import { Server } from '@hocuspocus/server'

const port = Number(process.env.PORT)
await new Server({ port, address: '127.0.0.1', quiet: true }).listen()
