// http-proxy as its documentation shows it, with connections kept, and the key put in.
import { Agent, createServer } from 'node:http'

import httpProxy from 'http-proxy'

const agent = new Agent({ keepAlive: true })
const proxy = httpProxy.createProxyServer({ target: process.env.OPENAI_BASE_URL, changeOrigin: true, agent })
proxy.on('proxyReq', (request) => request.setHeader('authorization', `Bearer ${process.env.OPENAI_API_KEY}`))
proxy.on('error', (error, request, response) => response.writeHead?.(502).end(error.message))
const server = createServer((request, response) => {
  if (!request.url.startsWith('/proxy/openai/')) return response.writeHead(404).end()
  request.url = request.url.slice('/proxy/openai'.length)
  proxy.web(request, response)
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
