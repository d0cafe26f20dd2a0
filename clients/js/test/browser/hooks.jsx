// A page of the hooks: two people in one room, each with a connection of its own.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Realtime } from "fanfare";
import { useChannel, useHistory, usePresence } from "fanfare/react";

function Room({ realtime, channel, name }) {
  const [heard, setHeard] = useState(0);
  useChannel(realtime, channel, ({ event }) => event === "chat" && setHeard((count) => count + 1));
  const members = usePresence(realtime, channel);
  const { messages, older } = useHistory(realtime, channel, { page: 3 });
  return (
    <section id={name}>
      <output className="heard">{heard}</output>
      <output className="members">{members.map(({ data }) => data?.name ?? "?").sort().join(" ")}</output>
      <output className="messages">{messages.map(({ message }) => message).join(" ")}</output>
      <button onClick={older}>older</button>
    </section>
  );
}

function Page({ people, channel }) {
  return people.map(({ name, realtime }) => <Room key={name} name={name} realtime={realtime} channel={channel} />);
}

globalThis.show = async (options, channel, names) => {
  const people = names.map((name) => ({ name, realtime: new Realtime(options) }));
  await Promise.all(people.map(({ name, realtime }) => realtime.update({ name })));
  const root = createRoot(document.body);
  const render = () => root.render(<StrictMode><Page people={people} channel={channel} /></StrictMode>);
  render();
  globalThis.remove = (name) => {
    people.splice(people.findIndex((person) => person.name === name), 1);
    render();
  };
};
