package card

// A guard is what the device around the element tells it over its own wires.
// It belongs to the device, not to the element's memory: the device says it
// again when it starts.
type guard struct {
	may     func(loadFile, module AID) bool
	vouched bool
}

// Restrict lets INSTALL find only the modules that may says yes to: the
// device's firmware release names them. Nil lifts it. Instances that are there
// go on working.
func (e *Element) Restrict(may func(loadFile, module AID) bool) { e.guard.may = may }

func (g guard) allows(loadFile, module AID) bool { return g.may == nil || g.may(loadFile, module) }

// Vouch tells the element whether the device has verified its wearer (consumer
// device cardholder verification): on the wrist since a right passcode.
func (e *Element) Vouch(verified bool) { e.guard.vouched = verified }

// Vouched tells an applet whether the device has verified its wearer. It is
// false in a device without power: what needs a cardholder is then refused or
// verified by the terminal.
func (s *Session) Vouched() bool { return s.e.guard.vouched }

// Entries lists the registry as the device may show it, whatever is selected.
func (e *Element) Entries() []Entry { return e.registry().Entries() }
