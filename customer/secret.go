package customer

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// DefaultCost is the number of PBKDF2-HMAC-SHA256 rounds a new hash takes when
// the desk names none (NIST SP 800-132 asks for as many as users will bear;
// this is about 60 ms on the machines koala is measured on).
const DefaultCost = 200_000

// maxCost bounds what a stored hash can make the server work.
const maxCost = 10_000_000

const saltLen = 16 // bytes, RFC 8018 4.1 asks for at least 8

var b64 = base64.RawStdEncoding

// hashSecret writes "pbkdf2-sha256$rounds$salt$hash", so that the cost can be
// raised later without touching old records.
func hashSecret(secret string, salt []byte, cost int) (string, error) {
	sum, err := pbkdf2.Key(sha256.New, secret, salt, cost, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hashing a secret: %w", err)
	}
	return fmt.Sprintf("pbkdf2-sha256$%d$%s$%s", cost, b64.EncodeToString(salt), b64.EncodeToString(sum)), nil
}

// matches tells whether secret gave the stored hash. It takes the same time
// whether or not it does; a hash it cannot read matches nothing.
func matches(stored, secret string) bool {
	parts := strings.Split(stored, "$")
	if len(parts) != 4 || parts[0] != "pbkdf2-sha256" {
		return false
	}
	cost, err := strconv.Atoi(parts[1])
	if err != nil || cost < 1 || cost > maxCost {
		return false
	}
	salt, err := b64.DecodeString(parts[2])
	if err != nil {
		return false
	}
	want, err := b64.DecodeString(parts[3])
	if err != nil || len(want) != sha256.Size {
		return false
	}
	got, err := pbkdf2.Key(sha256.New, secret, salt, cost, sha256.Size)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1
}
