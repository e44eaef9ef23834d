// What a hub in TypeScript does: `fetch`, and for a chat each event decoded and encoded anew.
import { createServer } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const { OPENAI_BASE_URL, OPENAI_API_KEY, GROK_BASE_URL, GROK_API_KEY } = process.env
const json = { 'content-type': 'application/json' }

async function body(request) {
  const pieces = []
  for await (const piece of request) pieces.push(piece)
  return Buffer.concat(pieces)
}

async function proxy(request, response) {
  const url = OPENAI_BASE_URL + request.url.slice('/proxy/openai'.length)
  const headers = new Headers(Object.entries(request.headers))
  for (const name of ['host', 'connection', 'content-length', 'cookie']) headers.delete(name)
  headers.set('authorization', `Bearer ${OPENAI_API_KEY}`)
  const answer = await fetch(url, { method: request.method, headers, body: await body(request) })
  response.writeHead(answer.status, Object.fromEntries(answer.headers))
  await pipeline(Readable.fromWeb(answer.body), response)
}

async function chat(request, response) {
  const { messages, model } = JSON.parse(await body(request))
  const headers = { ...json, authorization: `Bearer ${GROK_API_KEY}` }
  const asked = JSON.stringify({ model, messages, stream: true })
  const answer = await fetch(`${GROK_BASE_URL}/v1/chat/completions`, { method: 'POST', headers, body: asked })
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  const send = (event) => response.write(`data: ${JSON.stringify({ ...event, model, timestamp: Date.now() })}\n\n`)
  send({ type: 'RUN_STARTED', runId: 'run-1' })
  let rest = ''
  let content = ''
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + text).split('\n\n')
    rest = events.pop()
    for (const event of events) {
      if (event === 'data: [DONE]') continue
      const delta = JSON.parse(event.slice('data: '.length)).choices[0].delta.content
      if (!delta) continue
      content += delta
      send({ type: 'TEXT_MESSAGE_CONTENT', messageId: 'msg-1', delta, content })
    }
  }
  send({ type: 'RUN_FINISHED', runId: 'run-1', finishReason: 'stop' })
  response.end('data: [DONE]\n\n')
}

const server = createServer((request, response) => {
  const handler = request.url === '/ai/chat' ? chat : proxy
  handler(request, response).catch(() => response.destroy())
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
