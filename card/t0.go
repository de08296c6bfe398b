package card

import "koala/spec/iso7816"

// T0 is the transport of contacts under T=0 (ISO 7816-3, 12.2): a command
// carries data or fetches data, never both. An answer to a command with data is
// announced by 61xx and fetched with GET RESPONSE; a wrong Le is answered 6Cxx,
// and the command that then comes again with xx gets the answer that waits: it
// is carried out once.
type T0 struct {
	Card  iso7816.Transmit
	held  []byte
	sw    iso7816.SW
	again [4]byte // the header that 6Cxx asked for once more
	asked bool
}

// Transmit passes one command on and holds its answer back where T=0 does. GET
// RESPONSE comes in class 00 or in that of the command it belongs to.
func (t *T0) Transmit(c iso7816.Command) (iso7816.Response, error) {
	head := [4]byte{c.CLA, c.INS, c.P1, c.P2}
	switch {
	case t.asked && head == t.again && len(c.Data) == 0:
		return t.whole(c.Le), nil
	case c.INS == iso7816.InsGetResponse && len(c.Data) == 0 && (t.held != nil || c.CLA&^0x03 == 0):
		if t.asked {
			t.drop()
		}
		return t.fetch(c.Le), nil
	}
	t.drop()
	r, err := t.Card(c)
	if err != nil || len(r.Data) == 0 {
		return r, err
	}
	t.held, t.sw = r.Data, r.SW
	if len(c.Data) > 0 {
		return iso7816.Response{SW: 0x6100 | iso7816.SW(byte(min(len(r.Data), 256)))}, nil
	}
	t.again = head
	return t.whole(c.Le), nil
}

func (t *T0) drop() { t.held, t.asked = nil, false }

// whole gives the answer of a command without data, for the right Le only.
func (t *T0) whole(le int) iso7816.Response {
	if t.asked = shortLe(le) != min(len(t.held), 256); t.asked {
		return iso7816.Response{SW: 0x6C00 | iso7816.SW(byte(min(len(t.held), 256)))}
	}
	return t.fetch(le)
}

func (t *T0) fetch(le int) iso7816.Response {
	switch want := shortLe(le); {
	case t.held == nil:
		return status(iso7816.SWConditions)
	case want > len(t.held):
		return iso7816.Response{SW: 0x6C00 | iso7816.SW(byte(len(t.held)))}
	case want < len(t.held):
		out := t.held[:want]
		t.held = t.held[want:]
		return iso7816.Response{Data: out, SW: 0x6100 | iso7816.SW(byte(min(len(t.held), 256)))}
	}
	out := t.held
	t.held = nil
	return iso7816.Response{Data: out, SW: t.sw}
}

func shortLe(le int) int {
	if le == 0 {
		return 256
	}
	return max(le, 0)
}
