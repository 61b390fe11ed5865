// The artifacts import each other without file extensions, as bundlers resolve them; Node requires the extension.
import { registerHooks } from "node:module";

registerHooks({
  resolve: (specifier, context, next) => next(specifier.endsWith(".graphql") ? `${specifier}.js` : specifier, context),
});
await import("./relay.mjs");
