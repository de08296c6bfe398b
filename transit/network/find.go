package network

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"koala/fare"
)

// MaxName bounds what people may type for a station, in bytes.
const MaxName = 200

// fold makes names comparable: lower case letters and digits only, & as and,
// without a closing 站 or Station.
func fold(name string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(name, "&", "and") {
		if r >= '！' && r <= '～' {
			r -= '！' - '!' // full-width forms of ASCII
		}
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	s := b.String()
	for _, tail := range []string{"站", "station"} {
		if cut := strings.TrimSuffix(s, tail); cut != "" {
			s = cut
		}
	}
	return s
}

// index enters every way to name s: slug, both names, the parts of an English
// name in front of and inside brackets, aliases, and the Chinese name without
// its line.
func (n *Network) index(s *Station) {
	names := append([]string{s.ID, s.ZH, s.EN}, s.Aliases...)
	if before, inside, ok := strings.Cut(strings.TrimSuffix(s.EN, ")"), "("); ok {
		names = append(names, before)
		if len(inside) > 2 { // not a point of the compass
			names = append(names, inside)
		}
	}
	if before, _, ok := strings.Cut(s.ZH, "("); ok {
		names = append(names, before)
	}
	for _, name := range names {
		key := fold(name)
		if !slices.Contains(n.names[key], s) {
			n.names[key] = append(n.names[key], s)
		}
	}
}

// Find returns the station that name means: Chinese or English name, alias,
// slug or six-digit code. The error for an unknown name lists the nearest
// ones, for a shared name all that have it, for a closed one its neighbours.
func (n *Network) Find(name string) (*Station, error) {
	if s, ok := n.byID[name]; ok {
		return s, nil
	}
	if c, err := strconv.ParseUint(name, 10, 32); err == nil && len(name) == 6 {
		if s, ok := n.byCode[fare.Code(c)]; ok {
			return s, nil
		}
	}
	key := fold(name)
	if key == "" || len(name) > MaxName {
		return nil, fmt.Errorf("station name of %d bytes: %w", len(name), ErrUnknown)
	}
	switch found := n.names[key]; {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		if s, ok := written(found, name); ok {
			return s, nil
		}
		return nil, fmt.Errorf("%w: %q is %s; use the full name or the code", ErrAmbiguous, name, listed(found, " or "))
	}
	for _, c := range n.Closed {
		if key == fold(c.ZH) || key == fold(c.EN) {
			return nil, fmt.Errorf("%w: %s (%s) on %s lies between %s and %s: %s", ErrClosed, c.ZH, c.EN, c.Line.EN, c.From.ZH, c.To.ZH, c.Note)
		}
	}
	if near := n.Like(name, 3); len(near) > 0 {
		return nil, fmt.Errorf("%w: %q; did you mean %s?", ErrUnknown, name, listed(near, ", "))
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
}

// written returns the one station whose Chinese or English name is name to
// the letter.
func written(all []*Station, name string) (found *Station, only bool) {
	for _, s := range all {
		if s.ZH == name || s.EN == name {
			found, only = s, found == nil
		}
	}
	return found, only
}

func listed(all []*Station, sep string) string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = fmt.Sprintf("%s (%s, %s)", s.ZH, s.EN, s.Code())
	}
	return strings.Join(out, sep)
}

// Like returns at most k stations whose names are nearest to name: those that
// contain it first, then by edit distance up to half the name's length.
func (n *Network) Like(name string, k int) []*Station {
	type hit struct {
		s    *Station
		cost int
		name string
	}
	want := []rune(fold(name))
	if len(want) == 0 || len(want) > 64 {
		return nil
	}
	best := map[*Station]hit{}
	for key, stations := range n.names {
		cost := 2 * distance(want, []rune(key))
		if strings.Contains(key, string(want)) || strings.Contains(string(want), key) {
			cost = min(cost, 1+len(key)/8)
		}
		if cost > len(want) {
			continue
		}
		for _, s := range stations {
			if h, ok := best[s]; !ok || cost < h.cost || cost == h.cost && key < h.name {
				best[s] = hit{s, cost, key}
			}
		}
	}
	hits := make([]hit, 0, len(best))
	for _, h := range best {
		hits = append(hits, h)
	}
	slices.SortFunc(hits, func(a, b hit) int {
		if a.cost != b.cost {
			return a.cost - b.cost
		}
		return a.s.index - b.s.index
	})
	out := make([]*Station, 0, k)
	for _, h := range hits[:min(k, len(hits))] {
		out = append(out, h.s)
	}
	return out
}

// distance is the Levenshtein distance.
func distance(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, ra := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j, rb := range b {
			cost := diagonal
			if ra != rb {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
