package cardtest

import (
	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// OpenChannel powers an element and opens the secure channel of its issuer's
// domain with the keys of the factory, as a trusted service manager does.
func OpenChannel(t T, e *card.Element, level gp.Level) *gp.Host {
	t.Helper()
	x := &Element{e, t}
	x.Power(card.Contact)
	x.Send(iso7816.Select(nil))
	a, err := gp.ParseInitAnswer(x.Send(gp.InitializeUpdate(0, [8]byte{1})).Data)
	if err != nil {
		t.Fatalf("channel: %v", err)
	}
	h, auth, err := gp.NewHost(gp.FactoryKeys(), [8]byte{1}, a, level)
	if err != nil {
		t.Fatalf("channel: %v", err)
	}
	x.Ask(auth)
	return h
}

// Manage sends commands through a channel. What the element refuses fails the
// test; an error says that its power failed.
func Manage(t T, e *card.Element, h *gp.Host, list ...iso7816.Command) error {
	t.Helper()
	for _, c := range list {
		w, err := h.Wrap(c)
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		r, err := e.Transmit(w)
		if err != nil {
			return err
		}
		if r, err = h.Unwrap(r); err != nil || !r.SW.OK() {
			t.Fatalf("%v: %v %v", c, r.SW, err)
		}
	}
	return nil
}
