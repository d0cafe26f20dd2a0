"""Session tokens: the keys that the apps of the suite know, and tokens signed with them."""

import functools
import json
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ALGORITHMS = ["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"]


def secret(app, algorithm="HS256"):
    """64 bytes, different for each app and algorithm."""
    return f"{algorithm}-secret-of-{app}-".ljust(64, "x")


@functools.cache
def private_key(algorithm):
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


@functools.cache
def public_pem(algorithm):
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key(algorithm).public_key().public_bytes(serialization.Encoding.PEM, spki).decode()


def session_keys(app):
    """The `session_keys` of an app's configuration: all algorithms for `default`, HS256 for the others."""
    if app != "default":
        return [{"algorithm": "HS256", "secret": secret(app)}]
    shared = [{"algorithm": name, "secret": secret(app, name)} for name in ALGORITHMS[:3]]
    return shared + [{"algorithm": name, "public_key": public_pem(name)} for name in ALGORITHMS[3:]]


def token(user="luke", app="default", algorithm="HS256", expires_in=3600, key=None, headers=None, **claims):
    """A token signed as the app expects; `expires_in=None` leaves `exp` out, `user=None` leaves `sub` out."""
    if expires_in is not None:
        claims.setdefault("exp", int(time.time()) + expires_in)
    if user is not None:
        claims["sub"] = user
    if key is None:
        key = secret(app, algorithm) if algorithm.startswith("HS") else private_key(algorithm)
    # PyJWT's own `encode` refuses claims of the wrong type, which are what some tests are about.
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return jwt.api_jws.encode(payload, key, algorithm=algorithm, headers=headers)
