import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  server: { host: '127.0.0.1', strictPort: true },
  // The client is linked from its folder, which has packages of its own for its tests. There must be one
  // Yjs in an app, and one React. With the client from npm this line is not needed.
  resolve: { dedupe: ['lib0', 'react', 'react-dom', 'y-protocols', 'yjs'] },
});
