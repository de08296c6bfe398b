package iso8583_test

import (
	"fmt"

	"koala/spec/iso8583"
)

// A terminal builds a balance inquiry and seals it; the host reads it, checks
// the MAC and answers.
func Example() {
	key, err := iso8583.NewKey([]byte{0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22})
	if err != nil {
		panic(err)
	}
	var sent iso8583.Message
	sent.Reset(iso8583.UnionPayPOS(), "0200")
	sent.SetHead(iso8583.POSHeader{Destination: 0x0003, Application: 0x60, Version: 0x31}.AppendTo(nil))
	sent.SetText(3, "310000")
	sent.SetText(11, "79")
	sent.SetText(41, "10016919")
	sent.SetText(60, "01000727000")
	wire, err := sent.Seal(nil, key)
	if err != nil {
		panic(err)
	}

	var got, answer iso8583.Message
	if err := got.Unpack(iso8583.UnionPayPOS(), wire); err != nil {
		panic(err)
	}
	fmt.Println(got.MTI(), got.Text(11), got.Verify(key))
	if err := answer.AnswerTo(&got, "51"); err != nil {
		panic(err)
	}
	wire, err = answer.AppendTo(nil)
	fmt.Printf("%X %v\n", wire, err)
	for _, l := range iso8583.Describe(&answer, iso8583.Options{}).Lines {
		if l.Field == 39 {
			fmt.Println(l.EN, l.Value, l.Meaning)
		}
	}
	// Output:
	// 0200 000079 <nil>
	// 600000000360310000000002102020000002800010310000000079353131303031363931390011010007270000 <nil>
	// response code 51 insufficient funds
}
