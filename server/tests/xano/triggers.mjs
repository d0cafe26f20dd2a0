// Channels with triggers, for clients in Node and in a page.

const OPEN = 'anonymous_clients = true\npresence = true\nclient_public_messaging = true\nclient_private_messaging = true';

export const CHANNELS = [
  ...['show/*', 'words/*', 'closed/*', 'slow/*', 'log'].map((pattern) => `pattern = "${pattern}"\n${OPEN}`),
  'pattern = "members/*"\npresence = true',
];
CHANNELS[0] = `${CHANNELS[0]}\nclient_authenticated_messaging = true`;

const trigger = (name, channel, source) => `
[[apps.xano.triggers]]
name = "${name}"
channel = "${channel}"
cpu_ms = 1000
actions = ["message", "join"]
source = '''${source}'''
`;

const INPUT = `
const shown = ({ action, command, channel, client, options, commandOptions, payload }) => {
  const { extras, permissions, socketId } = client;
  const own = ({ authenticated, channel, socketId }) => JSON.parse(JSON.stringify({ authenticated, channel, socketId }));
  return { action, command, channel, client: { extras, permissions, socketId }, options: own(options),
    commandOptions: own(commandOptions), payload };
};
`;

export const TRIGGERS = [
  trigger('show', 'show/*', `${INPUT} export function message(input) { return shown(input); }`),
  trigger('joins', 'members/*', `${INPUT} export function join(input) { publish('log', 'event', shown(input)); }`),
  trigger('words', 'words/*', `export function message(input) {
    const { payload } = input;
    if (payload?.clear) return null;
    if (typeof payload?.text !== 'string') refuse('A message has a text.');
    return { text: payload.text.replace(/darn/g, '****') };
  }`),
  trigger('closed', 'closed/*', 'export function join() { return false; }'),
  trigger('slow', 'slow/*', `const spin = (turns) => { while (turns > 0) turns -= 1; };
  export function join() { spin(1e6); }
  export function message(input) { spin(input.payload % 10 ? 100 : 30000); return input.payload; }`),
].join('');
