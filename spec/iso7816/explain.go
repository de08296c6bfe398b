package iso7816

import "fmt"

// A Field is one named part of a command or answer, in words: amounts in
// yuan, times readable, everything else in hexadecimal.
type Field struct {
	Name, NameZH string
	Value        string
	Secret       bool // the value must not be shown or logged; it is already masked
}

// An Explanation says what a command and its answer mean.
type Explanation struct {
	EN, ZH string
	Fields []Field
}

// Add appends a field and returns the explanation, for chaining.
func (e Explanation) Add(name, zh, value string) Explanation {
	e.Fields = append(e.Fields, Field{Name: name, NameZH: zh, Value: value})
	return e
}

// Explain explains the interindustry commands that do not belong to one
// application. It returns false for all others.
func Explain(c Command, r Response) (Explanation, bool) {
	if Base(c.CLA) != 0 {
		return Explanation{}, false
	}
	e := Explanation{}
	switch c.INS {
	case InsSelect:
		e = explainSelect(c)
	case InsManageChannel:
		e = Explanation{EN: "MANAGE CHANNEL", ZH: "管理逻辑通道"}
	case InsGetResponse:
		e = Explanation{EN: "GET RESPONSE", ZH: "取响应数据"}
	case InsGetChallenge:
		e = Explanation{EN: "GET CHALLENGE", ZH: "取随机数"}.Add("random", "随机数", hex(r.Data))
	case InsVerify:
		e = Explanation{EN: "VERIFY PIN", ZH: "验证密码"}
		e.Fields = append(e.Fields, Field{Name: "PIN", NameZH: "密码", Value: "••••", Secret: true})
	default:
		return Explanation{}, false
	}
	return e, true
}

func explainSelect(c Command) Explanation {
	if c.P1 == 0x04 {
		return Explanation{EN: "SELECT application", ZH: "选择应用"}.Add("AID", "应用标识", hex(c.Data))
	}
	return Explanation{EN: "SELECT file", ZH: "选择文件"}.Add("file", "文件", hex(c.Data))
}

func hex(b []byte) string { return fmt.Sprintf("%X", b) }
