package globalplatform

import (
	"fmt"
	"slices"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Tags of the contactless registry (Amendment C; CARD.md 3.6). What the public
// sources leave open is marked ours.
const (
	TagVersion      tlv.Tag = 0x9F08 // of the registry application, in A5
	TagCounter      tlv.Tag = 0x80   // update counter: the card's in A5, the application's in 61
	TagRank         tlv.Tag = 0x81   // place in the selection order, 1 first
	TagFamily       tlv.Tag = 0x87   // application family, two bytes: 00 and the AFI
	TagDisplay      tlv.Tag = 0x88   // 01 works with the display off, 00 does not
	TagInteraction  tlv.Tag = 0xA6   // what a wallet shows: objects as they were installed
	tagRegistryInfo tlv.Tag = 0xA5
	tagContactless  tlv.Tag = 0x61
	tagFailed       tlv.Tag = 0xA1
	tagConflicts    tlv.Tag = 0xA2

	// Within the contactless parameters of INSTALL, EF.
	tagProtocol    tlv.Tag = 0xA0
	tagUser        tlv.Tag = 0xA1
	tagInitial     tlv.Tag = 0x81   // initial contactless activation state
	tagProtocolSet tlv.Tag = 0xDF01 // ours: names the group of which one may be activated
)

// SWSome is SET STATUS's "not for all of them": the answer names the rest.
const SWSome iso7816.SW = 0x6320

// Contactless activation states, the second byte of 9F70.
const (
	Deactivated    byte = 0x00
	Activated      byte = 0x01
	NonActivatable byte = 0x80
)

// A RegistryInfo is what the contactless registry application says of itself.
type RegistryInfo struct {
	Version [2]byte
	Counter uint16 // global update counter: moves with every change
}

// Bytes codes the object A5, which GET DATA answers bare and SELECT in its FCI.
func (i RegistryInfo) Bytes() []byte {
	body := tlv.Append(nil, TagVersion, i.Version[:])
	return tlv.Append(nil, tagRegistryInfo, tlv.Append(body, TagCounter, []byte{byte(i.Counter >> 8), byte(i.Counter)}))
}

// FCI is the answer to SELECT of the registry application.
func (i RegistryInfo) FCI(aid AID) []byte {
	return tlv.Append(nil, 0x6F, append(tlv.Append(nil, 0x84, []byte(aid)), i.Bytes()...))
}

// ParseRegistryInfo reads A5, bare or in the FCI.
func ParseRegistryInfo(in []byte) (i RegistryInfo, err error) {
	version, ok := tlv.Find(in, TagVersion)
	counter, ok2 := tlv.Find(in, TagCounter)
	if !ok || !ok2 || len(version) != 2 || len(counter) != 2 {
		return i, fmt.Errorf("%w: contactless registry information", ErrAnswer)
	}
	return RegistryInfo{[2]byte(version), uint16(counter[0])<<8 | uint16(counter[1])}, nil
}

// A ContactlessEntry is one line of the contactless registry's GET STATUS.
type ContactlessEntry struct {
	AID          AID
	State        byte // life cycle
	Availability byte // contactless activation state
	Counter      uint16
	Rank         byte
	Family       []byte // empty: not told
	Display      []byte // empty: not told
	Interaction  []byte // objects, empty: none
}

// Append adds the entry as 61 to dst; tags, if not nil, keeps only the objects
// it lists. False: it has none of them.
func (e ContactlessEntry) Append(dst []byte, tags []tlv.Tag) ([]byte, bool) {
	var body []byte
	add := func(tag tlv.Tag, v []byte) {
		if len(v) > 0 && (tags == nil || slices.Contains(tags, tag)) {
			body = tlv.Append(body, tag, v)
		}
	}
	add(tagAID, []byte(e.AID))
	add(tagState, []byte{e.State, e.Availability})
	add(TagCounter, []byte{byte(e.Counter >> 8), byte(e.Counter)})
	add(TagRank, []byte{e.Rank})
	add(TagDisplay, e.Display)
	add(TagFamily, e.Family)
	add(TagInteraction, e.Interaction)
	if body == nil {
		return dst, false
	}
	return tlv.Append(dst, tagContactless, body), true
}

// ParseContactlessStatus reads the entries of one or several answers put
// together.
func ParseContactlessStatus(data []byte) ([]ContactlessEntry, error) {
	var list []ContactlessEntry
	for len(data) > 0 {
		tag, body, rest, err := tlv.Next(data)
		if err != nil || tag != tagContactless {
			return nil, fmt.Errorf("%w: contactless GET STATUS, tag %v", ErrAnswer, tag)
		}
		var e ContactlessEntry
		for len(body) > 0 {
			var v []byte
			if tag, v, body, err = tlv.Next(body); err != nil {
				return nil, fmt.Errorf("%w: contactless GET STATUS: %w", ErrAnswer, err)
			}
			e.set(tag, v)
		}
		list, data = append(list, e), rest
	}
	return list, nil
}

func (e *ContactlessEntry) set(tag tlv.Tag, v []byte) {
	switch {
	case tag == tagAID:
		e.AID = AID(v)
	case tag == tagState && len(v) == 2:
		e.State, e.Availability = v[0], v[1]
	case tag == TagCounter && len(v) == 2:
		e.Counter = uint16(v[0])<<8 | uint16(v[1])
	case tag == TagRank && len(v) == 1:
		e.Rank = v[0]
	case tag == TagFamily:
		e.Family = v
	case tag == TagDisplay:
		e.Display = v
	case tag == TagInteraction:
		e.Interaction = v
	}
}

// A ContactlessQuery is the GET STATUS of the contactless registry: by leading
// bytes of the AID and, if asked, one more criterion.
type ContactlessQuery struct {
	Next   bool // go on after 6310
	Prefix AID
	Tags   []tlv.Tag // nil: every object
	// Criterion 9F70 (activation state, one byte, or life cycle and activation
	// state), 87 (family) or 88 (display); 0 for none.
	Criterion tlv.Tag
	Value     []byte
}

// Command codes the command.
func (q ContactlessQuery) Command() iso7816.Command {
	data := tlv.Append(nil, tagAID, []byte(q.Prefix))
	if q.Tags != nil {
		var list []byte
		for _, t := range q.Tags {
			list = appendTag(list, t)
		}
		data = tlv.Append(data, tagTagList, list)
	}
	if q.Criterion != 0 {
		data = tlv.Append(data, q.Criterion, q.Value)
	}
	p2 := byte(0)
	if q.Next {
		p2 = 1
	}
	return plain(InsGetStatus, byte(Applications), p2, data)
}

// ParseContactlessQuery reads the command; its header is the caller's to check.
// A qualifier it does not know is an error.
func ParseContactlessQuery(c iso7816.Command) (q ContactlessQuery, err error) {
	if err := expect(c, InsGetStatus); err != nil {
		return q, err
	}
	bad := fmt.Errorf("%w: contactless GET STATUS", ErrCommand)
	if c.P1 != byte(Applications) || c.P2&^1 != 0 {
		return q, bad
	}
	q.Next = c.P2 == 1
	tag, v, rest, err := tlv.Next(c.Data)
	if err != nil || tag != tagAID || len(v) > maxAID {
		return q, bad
	}
	q.Prefix = AID(v)
	for len(rest) > 0 {
		if tag, v, rest, err = tlv.Next(rest); err != nil {
			return q, bad
		}
		switch {
		case tag == tagTagList && q.Tags == nil:
			if q.Tags, err = parseTagList(v); err != nil {
				return q, err
			}
		case q.Criterion == 0 && (tag == tagState && (len(v) == 1 || len(v) == 2) || tag == TagFamily && len(v) > 0 || tag == TagDisplay && len(v) == 1):
			q.Criterion, q.Value = tag, v
		default:
			return q, bad
		}
	}
	return q, nil
}

// Matches says whether an entry is one the query asks for.
func (q ContactlessQuery) Matches(e ContactlessEntry) bool {
	if len(e.AID) < len(q.Prefix) || e.AID[:len(q.Prefix)] != q.Prefix {
		return false
	}
	switch q.Criterion {
	case tagState:
		return q.Value[len(q.Value)-1] == e.Availability && (len(q.Value) == 1 || q.Value[0] == e.State)
	case TagFamily:
		return slices.Equal(q.Value, e.Family)
	case TagDisplay:
		return slices.Equal(q.Value, e.Display)
	}
	return true
}

// A ContactlessChange is what SET STATUS of the contactless registry does, P1 P2.
type ContactlessChange uint16

// Changes. The public sources fix the first two; of P1 02 they show only that
// wallets send it, so its second byte is ours.
const (
	Deactivate   ContactlessChange = 0x0100
	Activate     ContactlessChange = 0x0101
	ForgetOrder  ContactlessChange = 0x0200 // the volatile priority; no AIDs
	PutFirst     ContactlessChange = 0x0201 // volatile priority, in the order given
	MakeDefaults ContactlessChange = 0x0202 // first in the persistent order
)

// A ContactlessSet is that SET STATUS.
type ContactlessSet struct {
	Change ContactlessChange
	Apps   []AID
}

// Command codes the command.
func (s ContactlessSet) Command() iso7816.Command {
	return plain(InsSetStatus, byte(s.Change>>8), byte(s.Change), aidList(s.Apps))
}

func aidList(list []AID) (out []byte) {
	for _, a := range list {
		out = tlv.Append(out, tagAID, []byte(a))
	}
	return out
}

// ParseContactlessSet reads the command. Whether there is such a change is the
// caller's to check.
func ParseContactlessSet(c iso7816.Command) (s ContactlessSet, err error) {
	if err := expect(c, InsSetStatus); err != nil {
		return s, err
	}
	s.Change = ContactlessChange(c.P1)<<8 | ContactlessChange(c.P2)
	s.Apps, err = parseAIDs(c.Data)
	if err == nil && (len(s.Apps) == 0) != (s.Change == ForgetOrder) {
		err = fmt.Errorf("%w: contactless SET STATUS of %d applications", ErrCommand, len(s.Apps))
	}
	return s, err
}

func parseAIDs(in []byte) (list []AID, err error) {
	for len(in) > 0 {
		var tag tlv.Tag
		var v []byte
		if tag, v, in, err = tlv.Next(in); err != nil || tag != tagAID || !AID(v).valid() {
			return nil, fmt.Errorf("%w: list of AIDs", ErrCommand)
		}
		list = append(list, AID(v))
	}
	return list, nil
}

// Failures codes the answer to 6320: A1 with the applications that were not
// moved and, where it is a conflict, A2 with the activated ones in their way
// (ours: the public sources show A1 only).
func Failures(failed, conflicts []AID) []byte {
	out := tlv.Append(nil, tagFailed, aidList(failed))
	if len(conflicts) > 0 {
		out = tlv.Append(out, tagConflicts, aidList(conflicts))
	}
	return out
}

// ParseFailures reads it; nothing is no failure.
func ParseFailures(in []byte) (failed, conflicts []AID, err error) {
	if len(in) == 0 {
		return nil, nil, nil
	}
	bad := fmt.Errorf("%w: contactless SET STATUS", ErrAnswer)
	tag, v, rest, err := tlv.Next(in)
	if err != nil || tag != tagFailed {
		return nil, nil, bad
	}
	if failed, err = parseAIDs(v); err != nil || len(rest) == 0 {
		return failed, nil, err
	}
	if tag, v, rest, err = tlv.Next(rest); err != nil || tag != tagConflicts || len(rest) != 0 {
		return nil, nil, bad
	}
	conflicts, err = parseAIDs(v)
	return failed, conflicts, err
}
