import { Passkeys } from "./Passkeys";
import { Providers } from "./Providers";
import { SecondFactor } from "./SecondFactor";

/** What signs in, besides a password. */
export function SigningIn() {
  return (
    <>
      <SecondFactor />
      <Passkeys />
      <Providers />
    </>
  );
}
