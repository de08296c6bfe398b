package market

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"koala/calendar"
	"koala/city/street"
)

// nights is what institutions and bank (simulated) know from one night to the
// next. It is kept beside the terminals' images, whole after each of their acts:
// what goes to the house is kept before, as it goes, and given again after a
// restart, because the house takes the same file twice and books it once.
type nights struct {
	Since   calendar.Date       `json:"since"`   // the first day that institutions remember whole
	Closed  calendar.Date       `json:"closed"`  // the last day that Nights has closed
	Through map[string]bool     `json:"through"` // days that were compared, by host and day
	Bank    bank                `json:"bank"`
	Paper   map[string]leftover `json:"paper,omitempty"`
	File    *paperwork          `json:"file,omitempty"`      // a clearing file that is being compared
	Slip    *paperwork          `json:"statement,omitempty"` // a statement that is being taken
}

type (
	// A leftover is lines that were left out of an institution's earlier files.
	leftover struct {
		Carried []byte `json:"carried"`
	}
	// A paperwork is a file on its way to the house.
	paperwork struct {
		Host string        `json:"host,omitempty"`
		Day  calendar.Date `json:"day"`
		Name string        `json:"name"`
		Raw  []byte        `json:"raw"`
	}
)

func (m *Market) nightsFile() string { return filepath.Join(m.cfg.Dir, "nights.json") }

// keep writes down what the nights know.
func (m *Market) keep() error {
	if m.cfg.Dir == "" {
		return nil
	}
	m.nights.Paper = map[string]leftover{}
	for _, i := range m.Institutions() {
		if len(i.carried) > 0 {
			m.nights.Paper[i.Name] = leftover{i.carried}
		}
	}
	raw, err := json.Marshal(m.nights)
	if err == nil {
		err = os.MkdirAll(m.cfg.Dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("keeping the nights: %w", err)
	}
	return street.WriteFile(m.nightsFile(), raw)
}

// recall reads it; without it a market begins with the next whole day.
func (m *Market) recall() error {
	if m.cfg.Dir == "" {
		return nil
	}
	raw, err := os.ReadFile(m.nightsFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var n nights
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err != nil {
		return fmt.Errorf("the nights of %s: %w", m.nightsFile(), err)
	}
	if n.Through == nil {
		n.Through = map[string]bool{}
	}
	m.nights = n
	for _, i := range m.Institutions() {
		i.carried = n.Paper[i.Name].Carried
	}
	return nil
}

// remembered is a till's fact in its image.
type remembered struct {
	Batch, STAN     uint32
	Fact            Fact
	OfBatch, OfSTAN uint32
}

// lately are the facts of the open batch and the one before it: nights decide
// by them what terminal and switch do not agree on.
func (t *Till) lately() (out []remembered) {
	var last uint32
	for k := range maps.Keys(t.facts) {
		last = max(last, k.batch)
	}
	for _, k := range t.keys() {
		if f := t.facts[k]; k.batch+1 >= last {
			out = append(out, remembered{k.batch, k.stan, f, f.of.batch, f.of.stan})
		}
	}
	return slices.Clip(out)
}

func (t *Till) relearn(list []remembered) {
	for _, r := range list {
		r.Fact.of = key{r.OfBatch, r.OfSTAN}
		t.facts[key{r.Batch, r.STAN}] = r.Fact
	}
}
