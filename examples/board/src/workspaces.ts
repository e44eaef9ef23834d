// Written by `host types` from the workspaces' own schemas. Changes here are overwritten.

import { defineWorkspace, jsonSchema } from 'epicenter-client';

export interface Notes {
  id: string;
  title: string;
  color: 'yellow' | 'green' | 'blue' | 'pink';
  /** Where it is on the board, in px from the left. */
  x: number;
  /** Where it is on the board, in px from the top. */
  y: number;
  /** The room of its text. */
  body: string;
  /** When its text was edited last, in ms. */
  edited: number;
}

/** Board */
export const board = defineWorkspace<{
  tables: {
    notes: Notes;
  };
  kv: {};
  awareness: {
    color: string;
    drag: {
  id: string;
  x: number;
  y: number;
};
    name: string;
    pointer: {
  x: number;
  y: number;
};
  };
  actions: {};
  documents: {
    notes: 'body';
  };
}>({
  id: 'board',
  tables: {
    notes: {
      versions: [
        jsonSchema({
          "type": "object",
          "required": [
            "id",
            "title",
            "color",
            "x",
            "y",
            "body",
            "edited"
          ],
          "additionalProperties": false,
          "properties": {
            "id": {
              "type": "string"
            },
            "title": {
              "type": "string",
              "maxLength": 200
            },
            "color": {
              "enum": [
                "yellow",
                "green",
                "blue",
                "pink"
              ]
            },
            "x": {
              "type": "number",
              "description": "Where it is on the board, in px from the left."
            },
            "y": {
              "type": "number",
              "description": "Where it is on the board, in px from the top."
            },
            "body": {
              "type": "string",
              "description": "The room of its text."
            },
            "edited": {
              "type": "number",
              "description": "When its text was edited last, in ms."
            }
          }
        }),
      ],
      documents: {
        body: { guid: 'body', updatedAt: 'edited' },
      },
    },
  },
  kv: {
  },
  awareness: {
    color: jsonSchema({
      "type": "string"
    }),
    drag: jsonSchema({
      "properties": {
        "id": {
          "type": "string"
        },
        "x": {
          "type": "number"
        },
        "y": {
          "type": "number"
        }
      },
      "required": [
        "id",
        "x",
        "y"
      ],
      "type": "object"
    }),
    name: jsonSchema({
      "maxLength": 40,
      "type": "string"
    }),
    pointer: jsonSchema({
      "properties": {
        "x": {
          "type": "number"
        },
        "y": {
          "type": "number"
        }
      },
      "required": [
        "x",
        "y"
      ],
      "type": "object"
    }),
  },
  actions: {
  },
});
