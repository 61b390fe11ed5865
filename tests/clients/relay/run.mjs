// The artifacts import each other the way bundlers resolve it, without the ending; Node wants it.
import { registerHooks } from "node:module";

registerHooks({
  resolve: (specifier, context, next) => next(specifier.endsWith(".graphql") ? `${specifier}.js` : specifier, context),
});
await import("./relay.mjs");
