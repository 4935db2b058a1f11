package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The parameters of new hashes: those that OWASP's password storage cheat sheet
// gives as the least for argon2id. Tokens are random, so that guessing one is
// hopeless whatever the hash; it keeps the file from being of use to a thief.
const (
	hashMemory  = 19 * 1024 // KiB
	hashTime    = 2
	hashThreads = 1
	hashSalt    = 16
	hashSize    = 32
)

// What hashes in a file may ask of a node.
const (
	maxHashMemory  = 256 * 1024 // KiB
	maxHashTime    = 16
	maxHashThreads = 16
)

// parsedHash is a hash in the notation of its reference implementation:
// $argon2id$v=19$m=19456,t=2,p=1$salt$sum.
type parsedHash struct {
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

var errHash = errors.New("must be one of argon2id, as 'lockstep token create' makes it")

func hash(token string) string {
	h := parsedHash{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, hashSalt)}
	_, _ = rand.Read(h.salt) // never fails, says its documentation
	h.sum = h.of(token, hashSize)
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads, encode(h.salt), encode(h.sum))
}

func (h parsedHash) of(token string, size uint32) []byte {
	return argon2.IDKey([]byte(token), h.salt, h.time, h.memory, h.threads, size)
}

// parseHash never says what it has read.
func parseHash(text string) (h parsedHash, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return h, errHash
	}
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return h, errHash
	}
	var values [3]uint64
	for i, limit := range []struct {
		name string
		most uint64
	}{{"m=", maxHashMemory}, {"t=", maxHashTime}, {"p=", maxHashThreads}} {
		digits, ok := strings.CutPrefix(numbers[i], limit.name)
		values[i], err = strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || values[i] < 1 || values[i] > limit.most {
			return h, errHash
		}
	}
	h.memory, h.time, h.threads = uint32(values[0]), uint32(values[1]), uint8(values[2]) // their limits are smaller
	var errSalt, errSum error
	h.salt, errSalt = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	h.sum, errSum = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if errSalt != nil || errSum != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return h, errHash
	}
	return h, nil
}

// verify reports whether text is the hash of token.
func verify(text, token string) bool {
	h, err := parseHash(text)
	return err == nil && subtle.ConstantTimeCompare(h.of(token, uint32(len(h.sum))), h.sum) == 1 //nolint:gosec // at most 64
}
