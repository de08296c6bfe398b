package tsm

// A Phase is one step of an order that people can follow.
type Phase string

// The phases, in no order of their own: see walks.
const (
	PhaseWait        Phase = "wait"
	PhaseChannel     Phase = "channel"
	PhaseLook        Phase = "look"
	PhaseKeys        Phase = "keys"
	PhaseInstall     Phase = "install"
	PhasePersonalise Phase = "personalise"
	PhaseActivate    Phase = "activate"
	PhaseReadBack    Phase = "readback"
	PhaseInitLoad    Phase = "initload"
	PhaseCredit      Phase = "credit"
	PhaseProve       Phase = "prove"
	PhaseChallenge   Phase = "challenge"
	PhaseLock        Phase = "lock"
	PhaseBalance     Phase = "balance"
	PhaseRemove      Phase = "remove"
)

// walks gives for each kind the phases it passes when nothing goes wrong.
var walks = map[Kind][]Phase{
	Adopt:   {PhaseWait, PhaseChannel, PhaseKeys, PhaseReadBack},
	Issue:   {PhaseWait, PhaseChannel, PhaseInstall, PhasePersonalise, PhaseActivate, PhaseReadBack},
	SAM:     {PhaseWait, PhaseChannel, PhaseInstall, PhasePersonalise, PhaseActivate, PhaseReadBack},
	TopUp:   {PhaseWait, PhaseInitLoad, PhaseCredit},
	Block:   {PhaseWait, PhaseChallenge, PhaseLock, PhaseReadBack},
	Unblock: {PhaseWait, PhaseChallenge, PhaseLock, PhaseReadBack},
	Delete:  {PhaseWait, PhaseBalance, PhaseChannel, PhaseRemove},
}

// Walk lists the phases of a kind in the order they happen.
func Walk(k Kind) []Phase { return append([]Phase(nil), walks[k]...) }

// Words says what happens in the phase, in Chinese if zh.
func (p Phase) Words(zh bool) string { return pick(phaseWords[p], string(p), zh) }

var phaseWords = map[Phase][2]string{
	PhaseWait:        {"Waiting for the band", "等待手环连接"},
	PhaseChannel:     {"Opening a secure channel to the element", "与安全芯片建立安全通道"},
	PhaseLook:        {"Reading what the element already holds", "读取芯片现有状态"},
	PhaseKeys:        {"Replacing the factory keys", "替换出厂密钥"},
	PhaseInstall:     {"Installing the card application", "安装卡应用"},
	PhasePersonalise: {"Writing number, limits and keys", "写入卡号、限额与密钥"},
	PhaseActivate:    {"Switching the card on", "启用卡片"},
	PhaseReadBack:    {"Reading the result back", "回读核对"},
	PhaseInitLoad:    {"The card prepares the load", "圈存初始化"},
	PhaseCredit:      {"The card takes the money", "圈存写卡"},
	PhaseProve:       {"Asking the card what became of the load", "向卡片查证圈存结果"},
	PhaseChallenge:   {"The card gives a challenge", "取卡片随机数"},
	PhaseLock:        {"Changing the card's lock", "更改卡片锁定状态"},
	PhaseBalance:     {"The card proves its balance", "卡片证明余额"},
	PhaseRemove:      {"Removing the card from the element", "从芯片删除卡应用"},
}

// reached tells which of the walk's phases lies further: an order's phase
// never goes back when a session has to begin again.
func (k Kind) reached(old, now Phase) Phase {
	if rank(k, now) > rank(k, old) {
		return now
	}
	return old
}

func rank(k Kind, p Phase) int {
	for i, q := range walks[k] {
		if p == q {
			return i
		}
	}
	return -1
}
