// The provider behind all that is measured: answers at once, or streams events at a steady pace.
import { createServer } from 'node:http';

const EVENTS = 100;
const PAUSE_MS = 10;

const chunk = (delta, finish_reason) => {
  const choices = [{ index: 0, delta, finish_reason }];
  const event = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'm', choices };
  return `data: ${JSON.stringify(event)}\n\n`;
};
const word = chunk({ content: 'Hello ' }, null);
const end = `${chunk({}, 'stop')}data: [DONE]\n\n`;
const message = { role: 'assistant', content: 'Hello world. '.repeat(70) };
const usage = { prompt_tokens: 10, completion_tokens: 200, total_tokens: 210 };
const choices = [{ index: 0, message, finish_reason: 'stop' }];
const whole = JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: 'm', choices, usage });

const server = createServer(async (request, response) => {
  let body = '';
  for await (const piece of request) body += piece;
  const { stream, model } = JSON.parse(body || '{}');
  if (!stream) {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': whole.length });
    return response.end(whole);
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  if (model === 'quick') return response.end(word + end);
  let sent = 0;
  const timer = setInterval(() => {
    response.write(word);
    if (++sent === EVENTS) {
      clearInterval(timer);
      response.end(end);
    }
  }, PAUSE_MS);
  response.on('close', () => clearInterval(timer));
});
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
