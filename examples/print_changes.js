// Prints what changes: TOKEN=… node examples/print_changes.js https://guardwire.example/
import { connect } from "../static/client.js";

const account = connect({ url: process.argv[2], token: () => process.env.TOKEN });

account.onChange("positions.open.*", ([, , ticket], now) => console.log(ticket, now?.unrealized_pnl ?? "closed"));
account.onChange("guards.any_positions_should_close", (path, now) => console.log("should close:", now));
account.on("freshness", (level) => console.log(level)); // connected, stale or blind
account.on("connection", ({ phase, ending }) => phase === "closed" && console.error(ending?.reason));
