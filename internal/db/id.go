package db

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// ids makes identifiers: 50 bits of Unix milliseconds, a 20-bit count within
// the millisecond and 50 random bits, 5 bits to a sign of Crockford's base 32.
// The writer makes all of them, so the count alone keeps them apart in one
// process; the random bits keep processes apart.
type ids struct {
	from  io.Reader
	last  int64 // milliseconds of the last id
	count uint32
	pool  [512]byte // random bytes read ahead
	left  int
}

const (
	crockford  = "0123456789abcdefghjkmnpqrstvwxyz"
	countLimit = 1 << 20
)

func (g *ids) next(prefix string, now time.Time) string {
	if ms := now.UnixMilli(); ms > g.last {
		g.last, g.count = ms, 0
	} else if g.count++; g.count == countLimit {
		g.last, g.count = g.last+1, 0
	}
	if g.left == 0 {
		if _, err := io.ReadFull(g.from, g.pool[:]); err != nil {
			panic(fmt.Sprintf("db: no random bytes: %v", err))
		}
		g.left = len(g.pool)
	}
	chance := binary.BigEndian.Uint64(g.pool[g.left-8:])
	g.left -= 8

	id := make([]byte, 0, len(prefix)+25)
	id = append(append(id, prefix...), '_')
	id = base32(id, uint64(g.last), 10)
	id = base32(id, uint64(g.count), 4)
	id = base32(id, chance, 10)
	return string(id)
}

// base32 appends the lowest 5*n bits of v in n signs.
func base32(dst []byte, v uint64, n int) []byte {
	for shift := 5 * (n - 1); shift >= 0; shift -= 5 {
		dst = append(dst, crockford[v>>shift&31])
	}
	return dst
}
