/** A shop whose rules hold, whoever writes: by REST, in actions, and on devices that were offline for days. */

import { Denied, Invalid, NotFound, defineMutation, defineTable, defineWorkspace, generateId } from 'epicenter-workspace';
import * as z from 'zod';

const Product = z.object({
  id: z.string(),
  sku: z.string().describe('What the label says; no two products share it.'),
  price: z.int().nonnegative('must not be negative').describe('In cents.'),
  stock: z.int().nonnegative('must not be negative'),
});

const Customer = z.object({ id: z.string(), name: z.string() });

const Order = z.object({ id: z.string(), customer: z.string(), paid: z.boolean().default(false) });

const Line = z.object({
  id: z.string(),
  order: z.string(),
  product: z.string().nullable().describe('None once the product is gone.'),
  count: z.int(),
});

const products = defineTable(Product).unique('sku').enforce();
const customers = defineTable(Customer).enforce();
const orders = defineTable(Order).references('customer', 'customers').enforce();
const lines = defineTable(Line)
  .references('order', 'orders', 'cascade')
  .references('product', 'products', 'set-null')
  .enforce();

export default defineWorkspace({
  id: 'shop-js',
  title: 'Shop in TypeScript',
  tables: { products, customers, orders, lines },

  checks: () => ({
    // A server without accounts has one user, who owns everything.
    products: ({ operation, old, new: product, caller }) => {
      const isOwner = caller === undefined || caller.right === 'owner';
      if (operation === 'update' && old && old.price !== product.price && !isOwner) {
        throw new Denied('only the owner of the shop sets prices');
      }
    },
    // What was paid for stays as it is.
    orders: ({ operation, old, new: order }) => {
      if (operation === 'update' && old?.paid && !order.paid) {
        throw new Invalid('paid', 'an order that is paid stays paid');
      }
      if (operation === 'delete' && old?.paid) throw new Denied('an order that is paid stays');
    },
  }),

  actions: ({ tables }) => ({
    buy: defineMutation({
      description: 'Takes products from the stock into an order.',
      input: z.object({ order: z.string(), product: z.string(), count: z.int().min(1, 'must be at least 1') }),
      output: Line,
      handler: ({ order, product, count }) => {
        const known = tables.products.get(product);
        if (known === undefined) throw new NotFound(`we do not sell ${JSON.stringify(product)}`);
        if (known.stock < count) throw new Invalid('count', `only ${known.stock} are left`);
        tables.products.update(product, { stock: known.stock - count });
        return tables.lines.put({ id: generateId(), order, product, count });
      },
    }),
  }),
});
