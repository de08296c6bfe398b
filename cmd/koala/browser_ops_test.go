package main

func (v *visit) operate() {
	v.login("wang", "zhakou-2015")
	v.at("/ops/")
	v.look("ops")
}
func (v *visit) audit()   {}
func (v *visit) useKeys() {}
func (v *visit) goPlain() {}
func (v *visit) seeAll()  {}
