// Makes keys and tokens with jose, and prints the public set and the tokens.
import { SignJWT, exportJWK, generateKeyPair, calculateJwkThumbprint } from "jose";

const { secret, iss, aud } = JSON.parse(process.argv[2]);
const keys = [];
const tokens = {};

const claims = (alg) =>
  new SignJWT({ role: "authenticated", app_metadata: { provider: "email" } })
    .setIssuer(iss)
    .setAudience(aud)
    .setSubject(`jose-${alg}`)
    .setIssuedAt()
    .setNotBefore("0s")
    .setExpirationTime("1h");

for (const alg of ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"]) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = await exportJWK(publicKey);
  jwk.kid = await calculateJwkThumbprint(jwk);
  jwk.alg = alg;
  jwk.use = "sig";
  keys.push(jwk);
  tokens[alg] = await claims(alg).setProtectedHeader({ alg, typ: "JWT", kid: jwk.kid }).sign(privateKey);
}
tokens.HS256 = await claims("HS256").setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(new TextEncoder().encode(secret));

console.log(JSON.stringify({ jwks: { keys }, tokens }));
