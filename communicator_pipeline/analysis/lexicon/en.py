"""English."""

from communicator_pipeline.analysis.lexicon.entry import Lexicon

LEXICON = Lexicon(
    language="en",
    function_words=(
        "the of and to in is you that it he was for on are as with his they i at be this have "
        "from or one had by not but what all were we when your can said there an each which she "
        "do how their if will up other about out many then them these so some her would make like "
        "him into time has look two more go see no way could people my than been who its now find "
        "did get come made may any us our just know want need please thanks hey hi don doesn didn "
        "isn won t s re ve ll m im ive ill dont pls plz thx yeah yep ok lol btw hello good "
        "morning tomorrow today tonight should anyone someone really still think got going let me "
        "check send back here where why because after before first"
    ),
    greetings=(
        "^hi | ^hello | ^hey | ^dear | good morning | good afternoon | good evening | ^morning | "
        "hi all | hi there | hiya | ^yo"
    ),
    thanks="thanks | thank you | thx | ty | many thanks | cheers | much appreciated | tysm | tnx",
    solved=(
        "solved | never mind | nevermind | nvm | got it working | works now | working now | "
        "it works | found it | sorted | problem solved | issue resolved | is resolved | "
        "all good now | no longer needed | figured it out | please ignore my last | "
        "ignore my last message | fixed now | is fixed | that fixed it | that worked | "
        "scratch that | all sorted"
    ),
    fine=(
        "ok | okay | okey | great | perfect | cool | sounds good | will do | got it | "
        "understood | sure | yes | yep | yeah | no problem | np | noted | fine | done | agreed | "
        "awesome | see you | bye | good night | congrats | congratulations | lol | haha | nice | "
        "same here"
    ),
    question_words=(
        "^what | ^what s | ^when | ^where | ^who | ^why | ^how | ^which | ^whose | ^is there | "
        "^are there | ^is it | ^is the | ^is this | ^is that | ^are you | ^are we | ^are the | "
        "^do you | ^do we | ^does | ^did you | ^did the | ^did we | ^have you | ^has anyone | "
        "^has the | ^will you | ^will the | ^will we | ^would it | ^should we | ^should i | "
        "^anybody | ^does anyone | ^does anybody | ^can i | ^can we | ^could i | ^could we | "
        "^may i | ^any idea | ^any news | ^any update | ^any updates | ^any chance | ^anyone | "
        "^any word | ^how about | ^what about | i was wondering | wondering if | do you know | "
        "does anyone know | any thoughts"
    ),
    asks=(
        "can you | could you | would you | will you | can u | could u | cld u | can someone | "
        "could someone | can anyone | could anyone | please | pls | plz | let me know | lmk | "
        "i need you to | we need you to | i need your | need your | would you mind | "
        "do you mind | i would like you to | i d like you to | if you could | get back to me | "
        "give me a call | call me | ping me | send me | tell me | remind me | help me | "
        "need help | looking for help | waiting for your | waiting on you | waiting for you | "
        "your thoughts | what do you think | thoughts on this | thoughts | your call on | "
        "need a decision | need you to decide | your approval | need your ok | sign off on | "
        "rsvp | asap | still waiting | have a look | take a look | ^send | ^review | ^check | "
        "^confirm | ^call | ^approve | ^look at | ^update | ^reply | ^tell | ^help | ^share | "
        "^add | ^fix | ^ask | ^make sure | ^forward | ^book | ^bring | ^give | ^remind | "
        "^remember to | ^don t forget to | appreciate your help | appreciate it if you | "
        "you need to | you should send | we are waiting for you | i m waiting for"
    ),
    room=(
        "anyone | anybody | someone | somebody | everyone | everybody | all of you | folks | "
        "guys | team | @channel | @here | @all | @everyone | who can | who knows | who is | "
        "hi all | hey all"
    ),
    not_an_ask=(
        "please note | please find | please see | please be advised | please ignore | "
        "let me know if you have any questions | let me know if you have questions | "
        "if you have any questions | feel free to | please do not reply | no action needed | "
        "no action required | no need to reply | no reply needed | fyi only | just fyi | "
        "no rush no reply | click here | click below | unsubscribe | "
        "thank you for your patience | how cool is | guess what | who knew | let me check | "
        "let me see | i will send | i ll send | what a | how nice | how lovely | you know what"
    ),
    urgent=(
        "urgent | urgently | asap | immediately | right now | right away | emergency | critical | "
        "as soon as possible | time sensitive | high priority | blocker | blocking | p0 | p1 | "
        "sev1 | deadline"
    ),
    due=(
        "by | until | till | before | no later than | not later than | due | due by | due on | "
        "deadline is | deadline | at the latest by | latest by | expires | expires on | closes"
    ),
    due_after="at the latest | latest | is the deadline",
    weekdays=(
        "monday | mon",
        "tuesday | tue | tues",
        "wednesday | wed",
        "thursday | thu | thur | thurs",
        "friday | fri",
        "saturday",
        "sunday",
    ),
    days={
        0: "today | tonight | this evening | this afternoon",
        1: "tomorrow | tmrw | tmr",
        2: "day after tomorrow",
        7: "next week",
    },
    end_of_week="end of the week | end of week | eow | this week",
    end_of_day="end of day | end of the day | eod | cob | close of business",
    months=(
        "january | jan",
        "february | feb",
        "march",
        "april | apr",
        "may",
        "june | jun",
        "july | jul",
        "august | aug",
        "september | sep | sept",
        "october | oct",
        "november | nov",
        "december | dec",
    ),
    at_time="at | @ | o clock",
    positive=(
        "great | good | nice | love | loved | perfect | excellent | awesome | amazing | happy | "
        "glad | thanks | thank you | appreciate | wonderful | fantastic | brilliant | enjoyed | "
        "beautiful | congratulations | congrats | well done | helpful | cool | delighted | yay"
    ),
    negative=(
        "bad | broken | fail* | wrong | problem | problems | issue | annoying | slow | late | "
        "delay | delayed | missing | lost | sad | sorry | unhappy | disappointed | "
        "disappointing | worse | complain* | complaint | confusing | difficult | worried | "
        "stuck | crash* | bug | error | unfortunately | concern* | poor"
    ),
    angry=(
        "angry | furious | unacceptable | terrible | awful | horrible | ridiculous | disgusting | "
        "outrageous | worst | fed up | sick of | wtf | useless | pathetic | scam | hate | "
        "disgrace | incompetent | refund me | lawyer | never again | had enough | joke of a"
    ),
    negations=(
        "not | no | never | don t | doesn t | didn t | isn t | wasn t | can t | won t | hardly"
    ),
    injection=(
        "ignore previous instructions | ignore all previous | ignore your instructions | "
        "ignore all instructions | ignore any previous instructions | ignore prior instructions | "
        "ignore everything above | disregard previous instructions | disregard all previous | "
        "disregard your instructions | forget your instructions | forget all previous | "
        "forget previous instructions | reveal your prompt | reveal your system prompt | "
        "your system prompt | print your instructions | repeat your instructions | "
        "note to the ai | note to ai | note to the assistant | note for the assistant | "
        "note for the ai | attention assistant | attention ai | dear assistant | dear ai | "
        "to any ai | to all ai | message to the ai | ai assistant reading this | "
        "ai reading this | llm reading this | assistant reading this | if you are an ai | "
        "if you re an ai | if you are a language model | if you are an llm | "
        "if you are a bot reading | as an ai language model | as the assistant you | "
        "as the assistant approve | as the assistant please | as an ai assistant you | "
        "as the ai assistant | you are now dan | you are now in developer mode | "
        "enable developer mode | override your instructions | override your rules | "
        "override your programming | instructions for the assistant | "
        "instructions to the assistant | instructions for the ai | instructions to the ai | "
        "end of system prompt | ai agents must | ai assistants must | assistant must approve | "
        "assistant should approve | assistant approve | ai must approve | "
        "assistant do not tell the user | do not tell the user about | without telling the user"
    ),
    commits=(
        "i ve | i have | i will | i ll | i sent | i just | i m going to | i am going to | i did | "
        "i fixed | i can do | we will | we ll | we ve | we have sent | we have fixed | ^done | "
        "^sent | ^fixed | on it | will do | just sent | attached | i promise | i paid | "
        "i approved | ^approved | i m on | i am on | i m at | i m in | i agree | just did | "
        "just pushed | i merged | merged it | deployed | shipped it | i booked | booked it | "
        "refunded | i was | i m sending | i am sending | i can come | works for me | i m free | "
        "see you | you have my"
    ),
    topics={
        "question": (
            "does anybody know | does anyone have | does anybody have | who has | who knows | "
            "has anyone | do we | is there a | what s the difference | difference between | "
            "how do i | how can i | how to | does anyone know | do you know | what is | "
            "what's the | where can i | any idea | which one | quick question | question about | "
            "i was wondering | wondering | what does | why does | why is | who is | where is"
        ),
        "request": (
            "could you bring | can you pick up | remind me | add me | approve | proofread | "
            "translate | cover for me | cover my | help me with | lend me | borrow | "
            "order more | pay the | transfer the | fill in | fill out | share the | forward me | "
            "i need | please send | please review | please check | please approve | send me | "
            "need you to | need your | would you mind | can someone | could someone | ^review | "
            "^send | ^approve | sign off | your approval | pull request | take a look | "
            "have a look | feedback on | give me | could i get | could i have | can i have | "
            "can i get | could we get | may i have | may i borrow | are still missing | "
            "is still missing | we need | who can | need to talk | fill it in | "
            "any chance you could | would be great if you | i d need | don t forget to | "
            "looking for volunteers | who takes | do you have a spare | may we use | may i use | "
            "can we use | permission to"
        ),
        "scheduling": (
            "when are you | when should we | when shall we | when can we | pick you up | "
            "come by | come over | drop by | what day | which day | what date | swap shifts | "
            "swap shift | shifts | date works | let s say | let s do | how about | be there at | "
            "see you on | save the date | rsvp | doodle | what s your schedule | day off | "
            "book us | reserve | breakfast | lunch tomorrow | grab lunch | grab a coffee | "
            "dinner tomorrow | meeting | meet | schedule | reschedule | calendar | appointment | "
            "call tomorrow | available | availability | free on | are you free | time slot | "
            "what time | move the call | postpone | zoom | book a time | works for you | "
            "work for you | catch up on | move our | push our | let's meet | dinner on | "
            "see you at | which days | which dates | can you come | could you come | "
            "can i come | stop by | pick her up | pick him up | pick them up | "
            "pick up the kids | can cover | weeks off | days off | who s in | who has time | "
            "can you make it | can t make it | running late | count me in | who is coming | "
            "who s coming | are you coming | join us | meet up | works better | suits me | "
            "suit you"
        ),
        "incident": (
            "accident | leak | leaking | flooded | flood | power outage | power is out | "
            "stolen | theft | injured | burst pipe | broke down | flat tire | evacuat* | "
            "urgent help | alarm | crashed | locked out of the building | blocked road | "
            "outage | is down | are down | went down | incident | sev1 | sev2 | p1 | p0 | "
            "500 errors | error rate | on call | oncall | rollback | rolled back | unreachable | "
            "data loss | timeouts | postmortem | downtime | hotfix | breach | status 500 | 502 | "
            "503 | cannot reach | site is down | paging | on fire | caught fire | "
            "there is a fire | there s a fire | prod is | production is | in production is | "
            "prod db | error rates | disruption | has been stuck | no heating | no hot water | "
            "no power"
        ),
        "sales": (
            "per unit | wholesale | sell | selling | supplier | commission | sponsor | "
            "sponsorship | per month | per hour | rate card | estimate | ballpark | for sale | "
            "collaboration | vat | payment terms | down payment | pricing | quote | purchase | "
            "buy | order for | discount | invoice | contract | proposal | license | licenses | "
            "seats | subscription plan | enterprise plan | price list | price | how much | "
            "budget | partnership | prospect | renewal | purchase order | bulk order | "
            "upgrade our plan | reseller | in stock | a demo | product demo | sell your | "
            "become a dealer | minimum order | would like to order | want to order | "
            "interested in buying | interested in ordering | do you sell | retail price | "
            "free trial | our offer | an offer for | what would it cost | shipping cost | "
            "shipping costs | would like to buy | want to buy | do you ship | ship to | "
            "where can i buy | pre-order | preorder | media kit | price for | how much would"
        ),
        "support": (
            "return it | replacement | replace it | repair | won t start | won t open | "
            "lost my | can t find my | not received | how do i return | stopped working | "
            "keeps saying | not charging | customer service | can t get it to | doesn t load | "
            "wrong item | wrong size | doesn t work | does not work | not working | "
            "isn t working | can t log in | cannot log in | can t login | error message | bug | "
            "crash* | refund | my order | my account | password | reset | broken | stuck | "
            "problem with | ticket | can t open | failed to | locked out | where is my | "
            "warranty | damaged | installation | install | not arrived | hasn t arrived | "
            "login | error | escalation | complaint | wobbl* | rattl* | squeak* | scratch* | "
            "dented | cracked | faulty | defective | came loose | keeps crashing | "
            "nobody answers | customer support | broke again | nobody replies | no reply | "
            "still waiting | waiting for my | under warranty | won t turn on | won t charge"
        ),
        "fyi": (
            "heads-up | i m out | out of office | on vacation until | new policy | from now on | "
            "starting monday | quick update | here are the | here s the | photos from | posted | "
            "moved to | closed until | weekly update | results are in | now available | "
            "we re launching | uploaded | i ve updated | i updated | i ve added | shared the | "
            "fyi | for your information | just so you know | heads up | announcement | "
            "announcing | newsletter | release notes | released | we have published | "
            "minutes of | recap | summary of | no action needed | no action required | "
            "reminder that | as of today | deployed | merged | is now live | weekly digest | "
            "changelog | update on | please note | notes from | status update | is closed | "
            "will be closed | unsubscribe | digest | is live | reminder | drill | "
            "is open again | opening hours | for the record | rolled out | open again | "
            "now open | out now | has arrived | have arrived | is fixed | sold out | "
            "back in stock | here is the | we ve published"
        ),
        "social": (
            "well done | great job | proud of | so cute | cute | photo | pics | mom | dad | "
            "grandma | recipe | delicious | yummy | concert | weather | dog | puppy | garden | "
            "thinking of you | hugs | sleep well | funny | omg | sweet | beautiful | the baby | "
            "how are things | how was it | hope you | welcome back | safe travels | cheers to | "
            "happy birthday | congratulations | congrats | how are you | how was your | "
            "good night | love you | haha | lol | miss you | merry christmas | happy new year | "
            "beer | movie | game last night | what's up | how's it going | long time no see | "
            "nice to meet | have fun | get well soon | the kids | pizza | birthday | mum | "
            "granny | grandpa | cake | my wife | my husband | football | costume | hahaha | "
            "made my day | love it | love them | what an evening | what a day | what a night | "
            "thank you all | thanks everyone | thanks everybody | a welcome | please welcome | "
            "warm welcome | welcome to the team | nice weekend | good weekend | great weekend | "
            "your weekend | a coffee | a beer | goodnight | lovely | feeling better | "
            "the party | we won | so proud | made me smile | good luck | thank you so much | "
            "you rock | what a ride | see you soon | keep up the | big fan | inspiring"
        ),
        "spam": (
            "click here | free money | you have won | you won | winner | lottery | "
            "crypto investment | guaranteed returns | earn money | make money | work from home | "
            "bitcoin | limited offer | limited time | act now | claim your | prize | casino | "
            "viagra | double your | passive income | airdrop | seo services | followers | "
            "giveaway | 100% free | wire transfer | gift card | gift cards | "
            "verify your account | your account will be suspended | dm me to earn | forex | "
            "investment opportunity | bonus | hot singles | risk free | usdt | "
            "join our channel | ^earn | no risk | guaranteed | business owner | website owner | "
            "first page of google | free audit | limited spots | promote your | grow your | "
            "boost your | crypto | nft | exclusive offer | free followers | check my profile | "
            "whatsapp me | dm us"
        ),
    },
    hello="Hi {name},",
    acknowledge={
        "": "thanks for your message. I'll look into it and get back to you.",
        "question": "thanks for your question. I'll look into it and get back to you.",
        "request": "thanks, I've seen your request and will look into it.",
        "scheduling": "thanks for your message. I'll check my calendar and get back to you.",
        "incident": "thanks for letting me know. I'll look into it.",
        "support": "thanks for reporting this, and sorry for the trouble. I'll look into it.",
        "sales": "thanks for your interest. I'll look into it and get back to you.",
        "social": "thanks for your message!",
    },
    answer={
        "when": "When: {gap}.",
        "how_much": "The amount: {gap}.",
        "where": "You can find it here: {gap}.",
        "who": "The right person: {gap}.",
        "free": "This would suit me: {gap}.",
    },
    gaps={
        "date": "date",
        "time": "time",
        "amount": "amount",
        "number": "number",
        "link": "link",
        "email": "e-mail address",
        "phone": "phone number",
        "order": "order number",
        "name": "name",
        "place": "place or link",
        "address": "address",
        "file": "file",
        "when": "date or time",
        "how_much": "amount",
        "where": "place or link",
        "who": "name",
        "free": "yes or no, or another time",
        "secret": "secret",
    },
    asked={
        "when": "when | what time | what date | by when | how long | how soon | eta",
        "how_much": "how much | how many | what price | what does it cost | the price",
        "where": "where | which link | the link | what address",
        "who": "who | whom | which person",
        "free": (
            "are you free | are you available | does that work | work for you | works for you | "
            "suit you | can we meet | let s meet | meet on | shall we meet | reschedule | "
            "move our | move the | available on"
        ),
    },
    summaries={
        "injection": "{name} sent a message with instructions to an assistant; not quoted.",
        "nothing": "{name} sent something without text.",
        "files": "{name} sent files: {files}",
    },
)
